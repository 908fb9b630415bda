#!/usr/bin/env bash
# ruff's formatter writes a docstring that ruff's linter then refuses, and will not take it back.
# Version: ruff 0.17.6.
# Behaviour: before a docstring whose text begins with a quotation mark, `ruff format` puts a space.
#   `ruff check --select D210` (no whitespace around docstrings) then reports that space, and
#   `--fix` leaves it. An engineer who removes the space has it back at the next `ruff format`.
# Output seen: the last lines of this file.
# Source: run on Linux x86_64, Python 3.11, 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/v"
"$folder/v/bin/pip" install -q ruff==0.17.6
cd "$folder"
printf '%s\n' 'def auth():' '    """"Done" or None."""' > quoted.py
ruff="$folder/v/bin/ruff"
"$ruff" --version
"$ruff" check --isolated -q --select D210 quoted.py && echo "before: clean"
"$ruff" format --isolated -q quoted.py
sed -n 2p quoted.py
"$ruff" check --isolated --select D210 --fix --output-format concise quoted.py | tee after.txt || true
grep -q D210 after.txt
# ruff 0.17.6
# before: clean
#     """ "Done" or None."""
# quoted.py:2:5: D210 No whitespaces allowed surrounding docstring text
# Found 1 error.
