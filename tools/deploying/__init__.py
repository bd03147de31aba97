"""Parts of ``tools/deploy.py``: the clips and the table."""
