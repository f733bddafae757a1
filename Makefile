# `make demo` and `make test` are all that a new machine needs: Python 3.11 and make.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
READY  := $(VENV)/.ready
TOOLS  := $(VENV)/.tools

# Which build of PyTorch: `auto` looks at the machine's GPU, if any, and spares a machine without
# one gigabytes of CUDA. Set it empty (make setup TORCH_BACKEND=) to take the index's own build.
TORCH_BACKEND ?= auto
# A folder of wheels, for machines that have one: its PyTorch is the build that is wanted.
FROM := $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",\
	$(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)))

.PHONY: demo run setup test test-fast check docs openapi lock clean

demo: $(READY)  ## Start everything, train, promote, and find a fault; ends by itself.
	$(BIN)/vigie demo

run: $(READY)  ## Start MLflow and the service, and stay.
	$(BIN)/vigie up

setup: $(TOOLS)  ## Make .venv with exact versions: of what runs, and of what tests and checks it.

# Where it is set, each process of the tests would compile them, and Vigie, anew.
test test-fast: export PYTHONDONTWRITEBYTECODE :=

test: $(TOOLS)  ## Run every test.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: $(TOOLS)  ## Run the quick tests, which start no server.
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" tests/unit tests/contract

check: $(TOOLS)  ## Lint, check formatting, types and who imports whom.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: export NO_MKDOCS_2_WARNING := 1

docs: $(TOOLS)  ## Build the documentation into build/docs, to be read from disk without a network.
	$(BIN)/python -m mkdocs build --quiet
	@echo "Open build/docs/index.html"

openapi: $(TOOLS)  ## Renew the snapshot of the OpenAPI document, once a change of it is meant.
	$(BIN)/python tests/helpers/openapi_snapshot.py

COMPILE = $(UV) pip compile pyproject.toml --extra auth --extra postgresql --extra s3 \
	--python-version 3.11 $(FROM) --no-annotate --no-header --quiet --upgrade-package torch

lock: $(READY)  ## Renew both locks from pyproject.toml.
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --extra dev --extra docs --constraints requirements.lock --output-file requirements-dev.lock
	sed -i 's/^\(torch==[0-9.]*\)+cpu$$/\1/' requirements.lock requirements-dev.lock

clean:  ## Remove the environment and all local state.
	rm -rf $(VENV) .vigie build

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv==0.13.9
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python $(FROM) -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	$(BIN)/python -m vigie.detectors.compiled
	touch $(READY)

$(TOOLS): $(READY) requirements-dev.lock
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python $(FROM) -r requirements-dev.lock
	touch $(TOOLS)
