"""The same work done by another program or a plain formula, for `speed` to compare with."""
