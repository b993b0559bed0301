#!/bin/sh
# Many operations at once on a real daemon: the contract, a daemon that goes away, the event loop's lag.
# Runs: make test ARGS="tests/docker tests/contracts -m docker -k 'docker_service or daemon_away or lag or loop or at_once'"
set -eu
cd "$(dirname "$0")/../.."
case "${1:-}" in -h | --help) exec sed -n 's/^# //p' docker/scripts/test-async-docker-load.sh ;; esac
export REQUIRE_DOCKER=1
wanted="docker_service or daemon_away or lag or loop or at_once"
exec make test ARGS="tests/docker tests/contracts -m docker -k '$wanted' $*"
