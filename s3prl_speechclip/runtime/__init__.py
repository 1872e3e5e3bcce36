"""What every training loop shares: devices, processes, random state, logs."""
