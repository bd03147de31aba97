#!/usr/bin/env bash
# tools/demo.sh [arguments of tools/demo.py]
# The main job on generated clips: two teachers, a student alone, a student
# that is distilled; one table and one picture. Does its own set-up.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV=${DTKD_VENV:-$PWD/.venv}
bash tools/setup_env.sh "$VENV"
exec "$VENV/bin/python" -W ignore tools/demo.py "$@"
