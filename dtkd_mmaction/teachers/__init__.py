"""Frozen teachers, their speedups and their cache."""
