#!/bin/sh
# Makes the certificates of mutual TLS. DOCKER_ENV, DOCKER_HOST_IP, DOCKER_HOST_NAME, DAYS and DOCKER_CERT_PATH are
# honoured; --help tells the rest. The work is done, and tested, in docker/certs.py.
set -eu
exec python3 "$(dirname "$0")/door.py" docker.certs "$@"
