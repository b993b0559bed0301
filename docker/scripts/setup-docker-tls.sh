#!/bin/sh
# Sets this machine's Docker daemon up for mutual TLS. On the daemon's machine, as root; --dry-run shows every step,
# --help tells the rest. The work is done, and tested, in docker/daemon_setup.py; the system's Python is enough.
set -eu
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" -m docker.daemon_setup "$@"
