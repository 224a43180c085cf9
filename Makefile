# Two commands do all the set-up: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PHOTOS ?=
DATA ?= ../shared/data
OUT ?= runs/default

.PHONY: demo test lint format bench train evaluate clean

# A stamp an extra: pip runs again only when pyproject.toml has changed.
$(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	touch $@

demo: $(VENV)/.demo  ## Ingest photos, run the shipped sketches, write demo/index.html (PHOTOS=dir for your own)
	$(BIN)/compsketch demo --out demo $(if $(PHOTOS),--photos "$(PHOTOS)")

test: $(VENV)/.dev  ## The whole test suite
	$(BIN)/python -m pytest -q -n 2

lint: $(VENV)/.dev  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## Ratios measured side by side; run it on a quiet machine
	$(BIN)/python -m pytest -q -s -m benchmark tests/benchmarks

train: $(VENV)/.dev  ## All stages from nothing, about an hour on 2 cores (DATA=folder, OUT=folder)
	$(BIN)/compsketch train all --data "$(DATA)" --out "$(OUT)"

evaluate: $(VENV)/.dev  ## The shipped bundle on the part of DATA that training has not seen
	$(BIN)/compsketch evaluate --held-out --json --methods ssbir,ssbir+words,msbir,random \
	  --annotations "$(DATA)/coco/annotations.json" --images "$(DATA)/coco/images" \
	  --annotations "$(DATA)/voc/annotations.json" --images "$(DATA)/voc/images" \
	  --sketches "$(DATA)/quickdraw.ndjson.gz"

clean:
	rm -rf $(VENV) demo .pytest_cache .mypy_cache .ruff_cache *.egg-info
