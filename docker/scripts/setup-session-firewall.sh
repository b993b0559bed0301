#!/bin/sh
# Closes this machine, its networks and link-local services to sessions. On the daemon's machine, as root; --help tells
# the rest. The work is done, and tested, in docker/firewall.py; the system's Python is enough.
set -eu
cd "$(dirname "$0")/../.."
exec "${PYTHON:-python3}" -m docker.firewall "$@"
