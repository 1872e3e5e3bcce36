"""The two frozen encoders: speech (transformers) and CLIP (open_clip)."""
