# make isa    set up, then run the whole safety pipeline with the quick preset
# make test   set up, then run the tests
# Variables: PYTHON (a Python 3.11), ARGS (for `safevla isa`), PYTEST_ARGS, SAFEVLA_NO_APT=1

PYTHON ?= python3.11
ARGS ?=
PYTEST_ARGS ?= --numprocesses auto --maxprocesses 8 --dist loadfile
VENV := .venv
BIN := $(VENV)/bin
LOCKED := $(VENV)/.locked
INSTALLED := $(VENV)/.installed

export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.PHONY: isa test check venv gl clean

isa: gl $(INSTALLED)
	$(BIN)/safevla isa $(ARGS)

test: gl $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

venv: $(INSTALLED)

# the packages of the lock, only when the lock has changed
$(LOCKED): requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-warn-script-location -r requirements.lock
	touch $@

# this checkout, editable, only when its metadata has changed
$(INSTALLED): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

gl:
	$(PYTHON) -I envs/safevla_envs/render/gl.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find envs safevla tests -name __pycache__ -type d -prune -exec rm -rf {} +
