"""What exists only to try the product without data: sets, encoders and how they are made."""
