# make demo | test | test-fast | test-cluster | lint | reference | bench | bench-search ; each sets everything up first, which is nothing to do when that is current
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: setup demo test test-fast test-cluster lint reference bench bench-search

setup: .venv/current

.venv/current: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it with make PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[search,export,s3,dev]' --constraint constraints.txt
	touch $@

demo: setup
	$(BIN)/orchestrator search launch tuning/searches/digits.yaml

# Tests start processes of their own, which wait for each other much of the time: a test process for every core, four at most.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

test: setup
	$(PYTEST)

# What needs no Ray, no command line and no browser
test-fast: setup
	$(PYTEST) -m 'not slow and not cluster'

# Three hosts made of namespaces, and a PostgreSQL: needs root on Debian or Ubuntu. RUNLEVEL=1: nothing that is installed is started.
CLUSTER_PACKAGES := iproute2 util-linux procps openssh-server openssh-client rsync curl postgresql

test-cluster: setup
	dpkg --status $(CLUSTER_PACKAGES) >/dev/null 2>&1 || { apt-get update -qq && \
		RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(CLUSTER_PACKAGES) >/dev/null; }
	$(BIN)/python -m pip install --quiet --editable '.[server]' --constraint constraints.txt
	$(BIN)/python -m pytest tests/cluster -m cluster

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# docs/spec.md and docs/search.md, from the spec classes and the shipped files
reference: setup
	$(BIN)/orchestrator explain --markdown job >docs/spec.md
	$(BIN)/orchestrator explain --markdown search >docs/search.md

BENCHMARKS := tricks overhead throughput startup recovery memory

bench: setup
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name $(BENCH) || exit 1; done

bench-search: setup
	$(BIN)/python -m benchmarks.search --away $(BENCH)
