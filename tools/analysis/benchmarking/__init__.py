"""Measurements of ``tools/analysis/benchmark.py``, one file per group."""
