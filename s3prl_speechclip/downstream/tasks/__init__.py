"""One file a task; each declares `TASK`."""
