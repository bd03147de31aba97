#!/usr/bin/env bash
# tools/docs.sh [DIR]
# Builds the documentation site into DIR (default docs/_build/html), with
# warnings as errors and links inside the site checked.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
OUT=${1:-docs/_build/html}
VENV=${DTKD_VENV:-$PWD/.venv}
bash tools/setup_env.sh "$VENV"
"$VENV/bin/python" -c 'import myst_parser, sphinx_book_theme' 2>/dev/null ||
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        -c requirements/pinned.txt -r requirements/docs.txt
"$VENV/bin/python" -W ignore -m sphinx -W --keep-going -q -b html docs "$OUT"
"$VENV/bin/python" tools/analysis/check_links.py docs README.md
echo "The site is in $OUT: open $OUT/index.html in a browser."
