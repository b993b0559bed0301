#!/bin/sh
# Runs a Python that is new enough: $PYTHON when it is given, else the first that is found.
set -eu

new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

version() {
  "$1" --version 2>&1 | head -n 1 || true
}

if [ -n "${PYTHON:-}" ]; then
  if new_enough "$PYTHON"; then exec "$PYTHON" "$@"; fi
  echo "Python 3.11 or newer is needed, and PYTHON=$PYTHON is none ($(version "$PYTHON"))." >&2
  exit 1
fi
for name in python3 python3.14 python3.13 python3.12 python3.11 .venv/bin/python; do
  if new_enough "$name"; then exec "$name" "$@"; fi
done
echo "Python 3.11 or newer is needed; python3 here is: $(version python3)." >&2
echo "Install one (on Debian: apt-get install python3 python3-venv) or name it: PYTHON=/path/to/python3.13 make run" >&2
exit 1
