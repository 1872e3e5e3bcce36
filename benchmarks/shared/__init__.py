"""What the benchmarks share: their declaration, options and inputs, and decoded recordings."""
