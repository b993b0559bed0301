#!/bin/sh
# Opens, uses, kills and resumes sessions in containers of a real daemon.
# Runs: make test ARGS="tests/walks tests/contracts/test_docker_service.py -m docker"
set -eu
cd "$(dirname "$0")/../.."
case "${1:-}" in -h | --help) exec sed -n 's/^# //p' docker/scripts/test-integration.sh ;; esac
export REQUIRE_DOCKER=1
exec make test ARGS="tests/walks tests/contracts/test_docker_service.py -m docker $*"
