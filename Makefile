# Names the commands; what they do stands in tools/. Every path is relative: the directory's own may hold spaces.
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
PY := .venv/bin/python
SETUP := @sh tools/python.sh tools/venv.py
DEV := $(SETUP) requirements.lock requirements-dev.lock
# Test processes side by side; many tests wait for real processes, so two are worth it on one core too.
WORKERS ?= 2

.PHONY: help venv run test test-all quick check check-format check-lint check-types check-imports check-house \
	fix docs image image-gateway lock release-archive clean bench bench-append bench-scale bench-fold bench-search

help:  ## this list
	@sed -n 's/^\([a-z%-]*\):.*## /  make \1\t/p' Makefile | expand -t 24

run:  ## install what is needed, then serve on 127.0.0.1:8000 (options of serve: ARGS="...")
	$(SETUP) requirements.lock && exec $(PY) -m gateway serve $(ARGS)

test:  ## every test but the slow ones; says what was not run here (ARGS="tests/events -x")
	$(DEV) && exec $(PY) -m pytest -n $(WORKERS) -m "not slow" $(ARGS)

test-all:  ## every test
	$(DEV) && exec $(PY) -m pytest -n $(WORKERS) $(ARGS)

quick:  ## the tests that need neither Postgres nor Docker and do not wait, in under 20 s
	$(DEV) && HYPOTHESIS_PROFILE=quick exec $(PY) -m pytest -m "not (slow or patient or postgres or docker or opencode)" $(ARGS)

check:  ## format, lint, types, imports, house rules: all of them, even when one fails
	$(DEV)
	@$(MAKE) --keep-going check-format check-lint check-types check-imports check-house

check-format:
	$(PY) -m ruff format --check .

check-lint:
	$(PY) -m ruff check .

check-types:
	$(PY) -m mypy

check-imports:
	$(PY) -c "from importlinter.cli import lint_imports_command as lint; lint()" --no-logo

check-house:
	$(PY) -m tests.house.figures
	$(PY) -m pytest -q -p no:randomly tests/test_house.py

fix:  ## format and mend what ruff can mend
	$(DEV)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs:  ## write the generated pages anew (docs/settings.md, docker/.env.example)
	$(DEV)
	$(PY) -m tools.settings_page > docs/settings.md.new && mv docs/settings.md.new docs/settings.md
	$(PY) -m tools.env_example > docker/.env.example.new && mv docker/.env.example.new docker/.env.example

image-gateway:  ## build the gateway's own image and give it to the Docker daemon of DOCKER_HOST
	$(SETUP) requirements.lock && exec $(PY) -m docker.image gateway

image:  ## build the image that sessions run and give it to the Docker daemon of DOCKER_HOST
	$(SETUP) requirements.lock && exec $(PY) -m docker.image opencode

bench: bench-append bench-scale bench-fold bench-search  ## every benchmark, one after the other; they want a quiet machine

bench-append:  ## append beside the eventsourcing library, INSERT and COPY (4 minutes; the last line is JSON)
	$(DEV) requirements-bench.lock && exec $(PY) -m benchmarks append

bench-scale:  ## append, tail and read at 10 thousand, 1 million and 3 million events (the last line is JSON)
	$(DEV) requirements-bench.lock && exec $(PY) -m benchmarks scale

bench-fold:  ## fold, project, answer as of a position and start at 1 million events (ARGS=20000: a small one)
	$(DEV) && exec $(PY) -m benchmarks fold $(ARGS)

bench-search:  ## the index of the log and searches by it at 1 million events (ARGS=20000: a small one)
	$(DEV) && exec $(PY) -m benchmarks search $(ARGS)

lock:  ## make the requirements*.lock files anew; needs uv (newest of all: ARGS=--upgrade)
	@sh tools/lock.sh $(ARGS)

release-archive:  ## keep what HEAD releases for tests of upgrades (another commit: ARGS=COMMIT)
	$(DEV) && exec $(PY) -m tools.release_archive $(ARGS)

venv:  ## only install what tests and checks need
	$(DEV)

clean:  ## stop and remove all that make made here: the embedded Postgres, var/, .venv, caches
	@sh tools/clean.sh
