"""Measuring a model: image features, embeddings of a split, recall, result files."""
