#!/bin/sh
# Limits of a real daemon under attack: memory hogs, full disks, neighbours.
# Runs: make test ARGS="tests/docker/test_aiodocker_service.py -m docker"
set -eu
cd "$(dirname "$0")/../.."
case "${1:-}" in -h | --help) exec sed -n 's/^# //p' docker/scripts/test-resource-limits-load.sh ;; esac
export REQUIRE_DOCKER=1
exec make test ARGS="tests/docker/test_aiodocker_service.py -m docker $*"
