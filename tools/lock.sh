#!/bin/sh
# Makes the three lock files anew: hashes for every file of every package, no index address, one answer for all Pythons
# from 3.11 on. Pins that are there already are kept; `make lock ARGS=--upgrade` takes the newest of each.
set -eu

uv=${UV:-uv}
if ! command -v "$uv" >/dev/null; then
  echo "uv is needed for this (pip install uv, or UV=/path/to/uv make lock)." >&2
  exit 1
fi
compile() {
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}
compile pyproject.toml --output-file requirements.lock "$@"
# The runtime's pins bind the developer's, so that one environment serves both.
compile pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock "$@"
# The benchmarks' peers go into the same environment too.
compile pyproject.toml --group bench --constraints requirements-dev.lock --output-file requirements-bench.lock "$@"
