"""The measurements of ``tools/analysis/benchmark.py``, a group a file."""
