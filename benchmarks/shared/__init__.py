"""Shared by the benchmarks: their declaration, options and inputs, and decoded recordings."""
