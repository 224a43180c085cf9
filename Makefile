# Two commands do all the set-up: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MILVUS := .venv-milvus/bin/milvus-server
PHOTOS ?=
DATA ?= ../shared/data
OUT ?= runs/default
RECIPE ?= default
SECONDS ?= 1800
SEED ?=

.PHONY: demo test milvus promtool lint proto format bench bench-scale bench-peers soak train train-smoke semir evaluate tables screenshots clean

# A stamp an extra: pip runs again only when pyproject.toml has changed.
$(VENV)/.%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	touch $@

demo: $(VENV)/.demo  ## Ingest photos, run the shipped sketches, write demo/index.html (PHOTOS=dir for your own)
	$(BIN)/compsketch demo --out demo $(if $(PHOTOS),--photos "$(PHOTOS)")

test: $(VENV)/.dev  ## The whole test suite; after `make milvus` also against a real Milvus server
	$(BIN)/python -m pytest -q -n 2 --ignore tests/integration
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup tests/integration

milvus: $(MILVUS)  ## A real Milvus server for the tests, without docker, in a venv of its own

$(MILVUS):
	$(PYTHON) -m venv .venv-milvus
	.venv-milvus/bin/python -m pip install --quiet --disable-pip-version-check milvus==2.3.5

promtool: .promtool/promtool  ## What checks deploy/monitoring in the tests, out of Debian's package without installing it

.promtool/promtool:
	mkdir -p .promtool
	cd .promtool && apt-get download -q prometheus
	dpkg --fsys-tarfile .promtool/prometheus_*.deb | tar -x -C .promtool --strip-components=3 ./usr/bin/promtool
	rm .promtool/prometheus_*.deb

lint: $(VENV)/.dev  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

proto: .venv-proto/bin/python  ## The code generated from encoders/serving/encoder.proto
	$< -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. encoders/serving/encoder.proto

# The oldest tools whose code runs with any newer grpcio and protobuf; apart, as they ask for an old protobuf themselves.
.venv-proto/bin/python:
	$(PYTHON) -m venv .venv-proto
	$@ -m pip install --quiet --disable-pip-version-check grpcio-tools==1.66.2

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## Ratios measured side by side; run it on a quiet machine
	DATA="$(DATA)" $(BIN)/python -m pytest -q -s -m benchmark tests/benchmarks tests/web

bench-scale: $(VENV)/.dev milvus  ## What rows cost on a real server (SIZES="100000 4500000"); hours of a quiet machine
	DATA="$(DATA)" $(BIN)/python -m pytest -q -s -m scale tests/benchmarks
	$(BIN)/python -m tests.benchmarks.growth

bench-peers: $(VENV)/.dev milvus  ## Other ways to search the same photos, and ours (ROWS=100000); a quiet machine
	DATA="$(DATA)" $(BIN)/python -m pytest -q -s -m peers tests/benchmarks

soak: $(VENV)/.dev milvus  ## Everything at work while its parts are killed (SECONDS=1800 SEED=any); invariants at the end
	SOAK_SECONDS="$(SECONDS)" SOAK_SEED="$(SEED)" $(BIN)/python -m pytest -q -s -m soak tests/soak

train: $(VENV)/.dev  ## All stages from nothing, under 3 h on 2 cores (DATA=folder, OUT=folder, RECIPE=name)
	$(BIN)/compsketch train all --recipe $(RECIPE) --data "$(DATA)" --out "$(OUT)"

train-smoke: $(VENV)/.dev  ## All stages on a few photos, from nothing
	rm -rf runs/smoke
	$(BIN)/compsketch train all --recipe smoke --data "$(DATA)" --out runs/smoke

semir: $(VENV)/.dev  ## The baseline SemIR, trained as its peer in OUT was
	$(BIN)/compsketch train semir --recipe $(RECIPE) --data "$(DATA)" --out "$(OUT)"

evaluate: $(VENV)/.dev  ## The shipped bundle on the part of DATA that training has not seen
	$(BIN)/compsketch evaluate --held-out --json --methods ssbir,ssbir+words,msbir,random \
	  --annotations "$(DATA)/coco/annotations.json" --images "$(DATA)/coco/images" \
	  --annotations "$(DATA)/voc/annotations.json" --images "$(DATA)/voc/images" \
	  --sketches "$(DATA)/quickdraw.ndjson.gz"

tables: $(VENV)/.dev  ## The paper's tables, with SemIR's rows if OUT holds it; an interrupted run goes on
	$(BIN)/compsketch tables --data "$(DATA)" --out tests/benchmarks/results \
	  $(if $(wildcard $(OUT)/semir/bundle/config.json),--semir "$(OUT)/semir/bundle")

screenshots: $(VENV)/.dev  ## The README's pictures of the sketch page, with the shipped encoder over the demonstration's scenes
	$(BIN)/python -m tests.web.screenshots .github

clean:
	rm -rf $(VENV) .venv-milvus .venv-proto .promtool demo .pytest_cache .mypy_cache .ruff_cache *.egg-info
