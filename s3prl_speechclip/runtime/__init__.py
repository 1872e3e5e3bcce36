"""What every training loop shares: devices, processes, signals, run folders, random state, logs."""
