#!/bin/sh
# Many operations at once on a real daemon: the contract, a daemon that goes away, the loop's lag.
# Runs: make test ARGS="tests/contracts/test_docker_service.py tests/contracts/test_docker_daemon_away.py -m docker"
set -eu
cd "$(dirname "$0")/../.."
case "${1:-}" in -h | --help) exec sed -n 's/^# //p' docker/scripts/test-async-docker-load.sh ;; esac
export REQUIRE_DOCKER=1
exec make test ARGS="tests/contracts/test_docker_service.py tests/contracts/test_docker_daemon_away.py -m docker $*"
