#!/usr/bin/env bash
# tools/test.sh [arguments of pytest]
# Style, types and tests, in the environment of tools/setup_env.sh (DTKD_VENV).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${DTKD_VENV:-$PWD/.venv}
bash tools/setup_env.sh "$VENV"

# Small tensors: more threads only wait for each other.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-1}
PATH=$VENV/bin:$PATH
ruff check .
ruff format --check .
codespell
mypy
# A process a core, and not more than memory has room for.
exec python -m pytest --numprocesses auto --maxprocesses 4 \
    --dist loadgroup "$@"
