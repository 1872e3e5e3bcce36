"""Evaluation by the field's protocols: one module a benchmark, found by listing this folder.

A module `<name>.py` is `run_benchmark.py <name>`; the first line of its docstring is its line in
`--help`, and its `BENCHMARK` declares options, measurement, table and leaderboard section.
"""
