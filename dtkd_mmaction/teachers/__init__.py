"""Frozen teachers: run, sped up, cached, or one batch ahead."""
