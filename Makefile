# make demo | test | lint | bench | bench-search ; each sets everything up first, which is nothing to do when that is current
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: setup demo test lint bench bench-search

setup: .venv/current

.venv/current: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it with make PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[search,export,s3,dev]' --constraint constraints.txt
	touch $@

demo: setup
	$(BIN)/orchestrator search launch tuning/searches/digits.yaml

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

BENCHMARKS := tricks overhead throughput startup memory

bench: setup
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name $(BENCH) || exit 1; done

bench-search: setup
	$(BIN)/python -m benchmarks.search --away $(BENCH)
