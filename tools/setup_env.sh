#!/usr/bin/env bash
# tools/setup_env.sh [DIR]
# Makes (or brings up to date) a virtual environment with the plugin, editable,
# and all that its tests need. DIR defaults to $DTKD_VENV, or else to .venv
# beside setup.py. Quick when nothing changed. Needs Python 3 with venv and the
# package index that pip is configured for. PYTHON chooses the interpreter.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${1:-${DTKD_VENV:-$ROOT/.venv}}
PYTHON=${PYTHON:-python3}

say() { echo "[setup_env] $*"; }
fail() {
    say "$*" >&2
    exit 1
}

# The set in requirements/pinned.txt is known to work on this one.
FOUND=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
    fail "'$PYTHON' does not run. Set PYTHON to a Python 3.11."
case $FOUND in
3.11) ;;
2.* | 3.[0-9] | 3.10)
    fail "requirements/pinned.txt needs Python 3.11, '$PYTHON' is $FOUND." \
        "Set PYTHON to a Python 3.11, or install without the pinned set:" \
        "pip install '.[tests,optional]'"
    ;;
*) say "requirements/pinned.txt is known to work on Python 3.11;" \
    "'$PYTHON' is $FOUND, which nobody has tried." ;;
esac

# The path is part of it: an editable install points to one working copy.
STAMP=$VENV/.dtkd_setup_stamp
WANTED=$(
    cd "$ROOT"
    {
        echo "$FOUND $ROOT"
        cat setup.py pyproject.toml requirements/*.txt \
            dtkd_mmaction/version.py tools/setup_env.sh
    } | "$PYTHON" -c \
        'import hashlib, sys
print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
)
if [ -x "$VENV/bin/python" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$WANTED" ]; then
    say "$VENV is up to date"
    exit 0
fi

if [ ! -x "$VENV/bin/python" ]; then
    if [ -e "$VENV" ] && [ -n "$(ls -A "$VENV" 2>/dev/null)" ]; then
        fail "$VENV is there, but is no virtual environment"
    fi
    say "creates $VENV (Python $FOUND)"
    "$PYTHON" -m venv "$VENV" ||
        fail "python -m venv failed (Debian: apt-get install python3-venv)"
fi
rm -f "$STAMP"

# The command line of pip tells what fails; a set -e exit would not.
pip_install() {
    say "pip install $*"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
        -c "$ROOT/requirements/pinned.txt" "$@" ||
        fail "pip install $* failed. If it is a package of" \
            "requirements/pinned.txt that has no file for Python $FOUND on" \
            "this machine, use Python 3.11 or install without the pinned" \
            "set: pip install '.[tests,optional]'"
}

pip_install torch==2.13.0 setuptools wheel
# Not isolated, so that the pinned setuptools builds the plugin.
pip_install --no-build-isolation -e "$ROOT[tests,optional]"
# Their own dependencies would bring another PyTorch.
pip_install --no-deps torchvision timm

say "checks the installation"
"$VENV/bin/python" -m pip check --disable-pip-version-check ||
    say "(what is said about torchvision and timm is expected)"
"$VENV/bin/python" -c 'import cv2' ||
    fail "OpenCV lacks system libraries:" \
        "apt-get install -y libgl1 libglib2.0-0"
"$VENV/bin/python" -W ignore -c 'import dtkd_mmaction, mmaction.models' ||
    fail "the plugin cannot be imported"

echo "$WANTED" >"$STAMP"
say "$VENV is ready: source $VENV/bin/activate"
