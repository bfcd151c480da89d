# `make demo` and `make test` work from nothing: each sets up .venv first. `make help` lists the rest.
#   PYTHON=…          interpreter that .venv is made with (3.11 or newer); found when not given
#   NEWEST_PYTHON=…   interpreter that .venv-newest is made with (3.12 or newer); found when not given
#   GPU_PYTHON=…      interpreter with JAX for CUDA, for the targets that need a GPU; nothing is installed for them
#   ARGS=…            passed on, e.g. make test ARGS="-k softmax"

PYTHON ?=
NEWEST_PYTHON ?=
ARGS ?=
GPU_PYTHON ?= python3

RUN := .venv/bin/python
FAST := -m "not slow"
# module by module, in the order of tests/conftest.py
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder --timeout=300
# values, derivatives and transformations against the oracle, each with every program that it has
DEVICE_TESTS := $(addprefix tests/test_,device.py value_and_grad.py torture.py oracle.py second_order.py transforms.py lanes.py)
# experiments with a target of their own are left out of `make experiments`
EXPERIMENTS = $(filter-out accuracy,$(basename $(notdir $(shell grep -l __main__ experiments/*.py))))

.DEFAULT_GOAL := help
.PHONY: setup demo test test-all test-newest test-gpu check format docs bench bench-full bench-gpu structure accuracy conformance mutate experiments release-check clean help

# Every interpreter is run before it is believed: python3.12 on PATH can be a pyenv shim that only prints an error.
define FUNCTIONS
try() { # MINOR COMMAND…: the path of that Python if it is 3.MINOR or newer and can make an environment
    minor=$$1; shift
    "$$@" -c "import ensurepip, sys, venv; sys.version_info >= (3, $$minor) or sys.exit(1); print(sys.executable)" 2>/dev/null
}
newest() { # MINOR: the newest Python found, not older than 3.MINOR
    for name in 3.14 3.13 3.12 3.11; do
        try $$1 python$$name && return
        for version in $$(pyenv versions --bare 2>/dev/null | grep -xE "$$name\.[0-9]+" | sort -rV); do
            try $$1 env PYENV_VERSION=$$version python$$name && return
        done
    done
    try $$1 python3
}
environment() { # FOLDER PYTHON PIP-ARGUMENTS…
    folder=$$1 python=$$2; shift 2
    $$folder/bin/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $$folder
    echo "Installing into $$folder ($$($$folder/bin/python -V)); a few minutes the first time."
    $$folder/bin/python -m pip install -qq --disable-pip-version-check "$$@"
    touch $$folder/.installed
}
lane() { # PYTHON PYTEST-ARGUMENTS…
    $$1 -c 'import importlib.metadata as m, platform as p; print("-- Python", p.python_version(), "jax", m.version("jax"))'
    "$$@"
}
loudly() {
    echo "======================================================================"
    printf '%s\n' "$$@"
    echo "======================================================================"
}
set -eu
endef
export FUNCTIONS

setup: .venv/.installed ## make .venv and install everything the other targets need

.venv/.installed: pyproject.toml
	@eval "$$FUNCTIONS"; \
	if [ -n "$(PYTHON)" ]; then python=$$(try 11 $(PYTHON)) || python=; \
	else python=$$(try 11 python3 || newest 11) || python=; fi; \
	if [ -z "$$python" ]; then \
	    loudly "jsoftmax needs Python 3.11 or newer with its venv module; $(if $(PYTHON),$(PYTHON) is not one.,none was found that runs.)" \
	        "Install one, or name it: make PYTHON=/path/to/python3.12 setup" >&2; \
	    exit 1; \
	fi; \
	environment .venv "$$python" -e '.[test,check]'

.venv/.docs: .venv/.installed
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -e '.[docs]'
	@touch $@

# Without such an interpreter the stamp is not written, and the lane says that it is skipped.
.venv-newest/.installed: pyproject.toml
	@eval "$$FUNCTIONS"; \
	if [ -n "$(NEWEST_PYTHON)" ]; then python=$$(try 12 $(NEWEST_PYTHON)) || python=; \
	else python=$$(newest 12) || python=; fi; \
	if [ -n "$$python" ]; then environment .venv-newest "$$python" --upgrade -e '.[test]' jax jaxlib; \
	else rm -f $@; fi

# What cannot be installed is skipped, loudly; the compilers fit one version of JAX each.
.venv-structure/.installed: pyproject.toml
	@eval "$$FUNCTIONS"; \
	python=$$(try 11 $(or $(PYTHON),python3) || newest 11); \
	environment .venv-structure "$$python" -e '.[experiments]'; \
	rm $@; \
	jaxlib=$$(.venv-structure/bin/python -c 'from importlib.metadata import version; print(version("jaxlib"))'); \
	for packages in libtpu "jax-cuda12-plugin==$$jaxlib jax-cuda12-pjrt==$$jaxlib nvidia-cuda-nvcc-cu12"; do \
	    .venv-structure/bin/python -m pip install -qq --disable-pip-version-check --no-deps $$packages || \
	        loudly "SKIPPED: no compiler from $$packages"; \
	done; \
	touch $@

demo: setup ## softmax from uniform to argmax: the first experiment
	@$(RUN) -m experiments.beta_sweep $(ARGS)

test: setup ## the test suite without what is marked slow
	@eval "$$FUNCTIONS"; lane $(RUN) -m pytest -q $(PARALLEL) $(FAST) $(ARGS)

test-newest: .venv-newest/.installed ## the same with the newest JAX, on Python 3.12 or newer if there is one
	@$(newest_lane) $(FAST) $(ARGS)

test-all: setup .venv-newest/.installed ## every test, on the default Python and with the newest JAX
	@eval "$$FUNCTIONS"; lane $(RUN) -m pytest -q $(PARALLEL) $(ARGS)
	@$(newest_lane) $(ARGS)
	@eval "$$FUNCTIONS"; jax=$$($(RUN) -c 'from importlib.metadata import version; print(version("jax"))'); \
	grep -qF "\"jax>=$$jax\"" pyproject.toml || loudly "SKIPPED: the tests with the oldest supported JAX; .venv has jax $$jax." \
	    "Python 3.11 gets the oldest: make clean, then make PYTHON=python3.11 test-all"

# the last line of a recipe: pytest's arguments follow
newest_lane = eval "$$FUNCTIONS"; \
	if [ ! -e .venv-newest/.installed ]; then \
	    loudly "SKIPPED: the tests with the newest JAX. They need Python 3.12 or newer, and none was found that runs." \
	        "Install one, or name it: make NEWEST_PYTHON=/path/to/python3.12 test-newest"; \
	    exit 0; \
	fi; \
	lane .venv-newest/bin/python -m pytest -q $(PARALLEL)

# a small program takes long to compile for a GPU, so processes share it where pytest-xdist is at hand
test-gpu: ## what depends on the device, on the GPU of this machine, with GPU_PYTHON as it is
	@parallel=$$($(GPU_PYTHON) -c 'import os, xdist; print("--dist=worksteal -n", min(8, os.cpu_count()))' 2>/dev/null) || :; \
	XLA_PYTHON_CLIENT_PREALLOCATE=false $(GPU_PYTHON) -m pytest -q -p no:cacheprovider --platform=cuda \
	    -m "not slow or device" $$parallel $(DEVICE_TESTS) $(ARGS)

check: setup ## formatting, lint, types, layers
	@$(RUN) -m ruff format --quiet --check . || { echo "Run: make format"; exit 1; }
	@$(RUN) -m ruff check --quiet .
	@$(RUN) -m mypy --no-error-summary
	@$(RUN) -m pytest -q --noconftest tests/test_layers.py

format: setup ## rewrite the sources as `make check` wants them
	@$(RUN) -m ruff check --quiet --fix .
	@$(RUN) -m ruff format --quiet .

docs: .venv/.docs ## build the site in docs/_build; what is amiss in it is an error
	@rm -rf docs/_generated
	@$(RUN) -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -b html docs docs/_build $(ARGS)
	@echo "docs/_build/index.html"

bench: setup ## measure time and memory beside the rivals', and rewrite docs/performance.md; 3 to 4 minutes
	@$(RUN) -m experiments.benchmarks $(ARGS)

bench-full: setup ## the same for every case, workload and dtype; about an hour
	@$(RUN) -m experiments.benchmarks --full $(ARGS)

bench-gpu: ## the same on the GPU of this machine, with its own workloads, with GPU_PYTHON as it is
	@XLA_PYTHON_CLIENT_PREALLOCATE=false $(GPU_PYTHON) -m experiments.benchmarks $(ARGS)

structure: .venv-structure/.installed ## compile every operator for GPU and TPU, without either, and rewrite docs/structure.md
	@TF_CPP_MIN_LOG_LEVEL=3 JAX_PLATFORMS=cpu .venv-structure/bin/python -m experiments.structure $(ARGS)

accuracy: setup ## measure the errors and rewrite docs/accuracy.md
	@$(RUN) -m experiments.accuracy $(ARGS)

conformance: setup ## hold this library and its peers to the conformance cases, and rewrite docs/conformance.md; a minute or two
	@$(RUN) -m experiments.conformance $(ARGS)

mutate: setup ## break the library in known ways and see the tests fail
	@$(RUN) -m tests.mutate $(ARGS)

experiments: setup ## every experiment, in full
	@for name in $(EXPERIMENTS); do echo "-- $$name"; $(RUN) -m experiments.$$name $(ARGS) || exit 1; done

release-check: setup ## build the package, install it where nothing else is, and use it as a user would; a minute or two
	@$(RUN) .ci/release_check.py $(ARGS)

clean: ## remove the environments, builds and caches
	@rm -rf .venv .venv-newest .venv-structure build dist docs/_build docs/_generated *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile
