#!/bin/sh
# The pool of connections to containers under load, and a gateway that is flooded.
# Runs: make test ARGS="tests/gateway/proxy/test_pool.py tests/gateway/proxy/test_http.py tests/walks/test_flood.py"
set -eu
cd "$(dirname "$0")/../.."
case "${1:-}" in -h | --help) exec sed -n 's/^# //p' docker/scripts/test-http-pool-load.sh ;; esac
exec make test ARGS="tests/gateway/proxy/test_pool.py tests/gateway/proxy/test_http.py tests/walks/test_flood.py $*"
