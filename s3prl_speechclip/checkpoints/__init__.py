"""Every kind of checkpoint file: native, official, located by name."""
