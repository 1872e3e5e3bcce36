"""Formulas of the benchmarks: pure functions over tokens, words, times and vectors."""
