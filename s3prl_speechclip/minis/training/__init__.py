"""The small encoders that the package ships, and how they are trained from nothing."""
