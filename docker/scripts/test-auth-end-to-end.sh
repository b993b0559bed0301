#!/bin/sh
# Keys, roles and tokens through a whole gateway: who gets in, who does not, what is recorded.
# Runs: make test ARGS="tests/gateway/access tests/gateway/proxy/test_handler_access.py tests/gateway/proxy/test_handler_secrets.py"
set -eu
cd "$(dirname "$0")/../.."
case "${1:-}" in -h | --help) exec sed -n 's/^# //p' docker/scripts/test-auth-end-to-end.sh ;; esac
exec make test ARGS="tests/gateway/access tests/gateway/proxy/test_handler_access.py tests/gateway/proxy/test_handler_secrets.py $*"
