"""Corpora: one manifest format, one reader each, batches."""
