# Everything sets itself up: `make demo` and `make test` are all a fresh machine needs.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export HF_HUB_OFFLINE = 1
# torch, ONNX Runtime and the tests share two cores at worst; nothing here needs more threads than that.
export TOKENIZERS_PARALLELISM = false

.PHONY: demo test check report parity lock bench bench-all clean

demo: $(VENV)/.demo
	@$(BIN)/python examples/saf/demo.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The two below read the SAF corpus: make parity SAF=/path/to/saf
SAF ?= ../shared/data/saf
parity: $(VENV)/.dev
	$(BIN)/python -m benchmarks.saf_parity --data $(SAF)

report: $(VENV)/.dev
	$(BIN)/python -m benchmarks.saf_quality --data $(SAF)

# What images install, for CPython 3.10 to 3.12.
LOCK = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.10 --generate-hashes --no-header --no-emit-index-url --quiet
lock: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) --extra serve --output-file server_config/requirements/serve.txt
	$(LOCK) --extra gpu --output-file server_config/requirements/gpu.txt

# Ten minutes on 2 cores. Each writes its rows; then the plots and both READMEs are made from the newest.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.precisions --data $(SAF) --rounds 3
	$(BIN)/python -m benchmarks.lora_price --data $(SAF) --rounds 3
	$(BIN)/python -m benchmarks.limit --data $(SAF) --rounds 3 --precision bfloat16
	$(BIN)/python -m benchmarks.growth --data $(SAF) --rounds 3 --axis rank length threads
	$(BIN)/python -m benchmarks.perf --data $(SAF) --passes 1 --batch 1
	$(BIN)/python -m benchmarks.plots
	$(BIN)/python -m benchmarks.readme
	$(BIN)/python -m benchmarks.guard

bench-all: $(VENV)/.bench
	$(BIN)/python -m benchmarks.everything --data $(SAF)
	$(BIN)/python -m benchmarks.plots
	$(BIN)/python -m benchmarks.readme
	$(BIN)/python -m benchmarks.guard

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml examples/saf/requirements.txt
	$(BIN)/python -m pip install --quiet --editable '.[serve,export]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement examples/saf/requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) model_repository/backbone/1 model_repository/store model_repository/logs
