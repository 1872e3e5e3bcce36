"""The model: configuration, branches, SpeechClip, model card."""
