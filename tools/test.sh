#!/usr/bin/env bash
# tools/test.sh [arguments of pytest]
# Style, types and tests, in the environment of tools/setup_env.sh (DTKD_VENV).
# Without arguments it runs all tests, and ends with the coverage of the
# package by its own tests.
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
# A process a core, and not more than memory has room for. One process runs all
# tests of a file, so fixtures of a file are made once.
PYTEST=(python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile)
if (($#)); then
    exec "${PYTEST[@]}" "$@"
fi
failed=0
"${PYTEST[@]}" --cov --cov-report= || failed=$?
echo "Coverage of the package; files below 80 %:"
coverage report | awk 'NR > 2 && (/^TOTAL/ || $NF + 0 < 80) && NF > 3'
exit "$failed"
