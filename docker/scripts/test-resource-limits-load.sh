#!/bin/sh
# Limits of a real daemon under attack: what takes all memory, processes or disk, and what its neighbours feel.
# Runs: make test ARGS="tests/docker tests/contracts tests/walks -m docker -k 'memory or hog or bomb or limit or tmp'"
set -eu
cd "$(dirname "$0")/../.."
case "${1:-}" in -h | --help) exec sed -n 's/^# //p' docker/scripts/test-resource-limits-load.sh ;; esac
export REQUIRE_DOCKER=1
attacks="memory or hog or bomb or limit or tmp"
exec make test ARGS="tests/docker tests/contracts tests/walks -m docker -k '$attacks' $*"
