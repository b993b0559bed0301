#!/bin/sh
# Sets this machine's Docker daemon up for mutual TLS. On the daemon's machine, as root; --dry-run shows every step,
# --help tell the rest. The work is done, and tested, in docker/daemon_setup.py; the system's Python is enough, from 3.11 on.
set -eu
PYTHON="${PYTHON:-python3}"
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed here: name one with PYTHON=..." >&2
    exit 2
fi
PYTHONPATH="$(cd "$(dirname "$0")/../.." && pwd)"
export PYTHONPATH
exec "$PYTHON" -P -m docker.daemon_setup "$@"
