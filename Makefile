# make demo: build and carry the sample traffic through the sample cluster
# make test: build and run the tests        make lint | sanitize | clean
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check
STAMPS := $(VENV)/stamps

# the part of the suite that drives the compiled code
SANITIZED_TESTS := tests/core tests/agreement tests/encap tests/testing tests/traffic tests/explain tests/capture/test_batches.py tests/report/test_plain_records.py tests/test_interface.py

SOURCES   := $(shell find ext -name '*.pyx' -o -name '*.pxd' -o -name '*.h' -o -name '*.c')
SANITIZED := build/sanitized
COMPILED  := dataplane._core dataplane._build dataplane._lpm dataplane._rulebook dataplane._capture_read dataplane._capture_write dataplane._generate dataplane._declarative_encap dataplane._python_encap $(patsubst ext/encap/%.pyx,dataplane._encap_%,$(wildcard ext/encap/*.pyx))

.PHONY: demo test lint sanitize clean
.DELETE_ON_ERROR:

demo: $(STAMPS)/built
	@mkdir -p out
	@$(BIN)/dataplane run pcaps/sample/scenario.yaml -w out/sample.pcapng

test: $(STAMPS)/built $(STAMPS)/test
	@$(BIN)/pytest

lint: $(STAMPS)/built $(STAMPS)/dev
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/stubtest --allowlist tools/stubtest-allowlist.txt --ignore-unused-allowlist $(COMPILED)

# Python's own leaks at exit are not ours, and its allocator would hide overruns within its arenas.
# What runs other programs stays out: they would inherit the preloaded library.
sanitize: $(SANITIZED)/stamp $(STAMPS)/test
	@LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	 PYTHONMALLOC=malloc PYTHONPATH=$(SANITIZED) DATAPLANE_SANITIZE=1 $(BIN)/pytest -p no:cacheprovider -m "not slow" $(SANITIZED_TESTS)

clean:
	@rm -rf $(VENV) build out dataplane/*.so podplane.egg-info

$(STAMPS)/venv: tools/preflight.py
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install the package python3 (3.11 or newer)" >&2; exit 1; }
	@$(PYTHON) tools/preflight.py
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install 'pip>=25.1'
	@mkdir -p $(@D) && touch $@

$(STAMPS)/built: $(STAMPS)/venv pyproject.toml setup.py $(SOURCES)
	@echo "building the core (a minute or two)"
	@$(PIP) install --group build
	@PYTHONWARNINGS=ignore $(PIP) install --no-build-isolation --editable .
	@touch $@

$(STAMPS)/test: $(STAMPS)/venv pyproject.toml
	@$(PIP) install --group test
	@$(PIP) install pcapy-ng 2>/dev/null || echo "pcapy-ng cannot be installed here (libpcap's headers?): tests that need it are skipped"
	@touch $@

$(STAMPS)/dev: $(STAMPS)/venv pyproject.toml
	@$(PIP) install --group dev
	@touch $@

$(SANITIZED)/stamp: $(STAMPS)/built $(shell find dataplane -name '*.py' -o -name '*.pyi')
	@echo "building the core with sanitizers"
	@DATAPLANE_SANITIZE=1 $(BIN)/python setup.py --quiet build --build-lib $(SANITIZED) --build-temp build/sanitized-objects
	@touch $@
