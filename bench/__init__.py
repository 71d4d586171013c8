"""Measurements: `python -m bench.NAME` prints a table, ours beside the peers'."""
