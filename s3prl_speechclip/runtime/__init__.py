"""Shared by all training loops: devices, processes, signals, run folders, random state, logs."""
