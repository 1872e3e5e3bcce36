"""Pretraining: from a corpus of recordings and images to a checkpoint."""
