#!/bin/sh
# Removes all that make made here: the embedded Postgres, var/, .venv and the tools' caches.
set -eu

if [ -x .venv/bin/python ]; then
  .venv/bin/python -m tools.clean
elif [ -e var/postgres.json ] || [ -e var/postgres ]; then
  echo "var/ holds a database, and .venv, which knows how to stop it, is gone: run 'make venv', then 'make clean'." >&2
  exit 1
else
  rm -rf var
fi
rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
find . -type d -name __pycache__ -prune -exec rm -rf {} +
