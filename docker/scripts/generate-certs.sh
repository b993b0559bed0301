#!/bin/sh
# Makes the certificates of mutual TLS. DOCKER_ENV, DOCKER_HOST_IP, DOCKER_HOST_NAME, DAYS and DOCKER_CERT_PATH are
# honoured; --help tells the rest. The work is done, and tested, in docker/certs.py.
set -eu
cd "$(dirname "$0")/../.."
if [ -z "${PYTHON:-}" ]; then
    if [ -x .venv/bin/python ]; then PYTHON=.venv/bin/python; else PYTHON=python3; fi
fi
exec "$PYTHON" -m docker.certs "$@"
