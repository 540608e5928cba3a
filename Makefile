# Everything lives in .venv; every target sets up what it needs.
PYTHON ?= python3
# The build of torch to install; on a machine with a GPU, or for CPU wheels from another index, set it on the command line.
TORCH ?= torch==2.13.0
CRYPTEN ?= crypten==0.4.1
BIN := .venv/bin
STAMP := .venv/.installed
# The oldest pandas whose bytes CI compares; it lies beside the environment and comes first on the path.
PANDAS2 := .venv/pandas-2.3.3
READERS := $(addprefix tests/data/test_,columns.py dataset.py digests.py files.py readers.py row_index.py) $(addprefix tests/governance/test_,catalogue.py commitment.py)
RUN ?= outputs/appraise

.PHONY: help setup appraise paper engine marketplace transformations test test-pandas-2 fuzz lint docs clean

help:  ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-15s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml Makefile
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps $(CRYPTEN)  # last: its own dependencies no longer resolve
	touch $@

setup: $(STAMP)  ## install into .venv

appraise: $(STAMP)  ## appraise label-noised digits by three methods, privately, in under a minute
	$(BIN)/mpc-appraisal hydra.run.dir=$(RUN)

paper: $(STAMP)  ## the paper's tables and figures, an hour or more; SMALL=1: on digits, in minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments appraisal $(if $(SMALL),--small)

engine: $(STAMP)  ## the engines side by side, half an hour; SMALL=1: in minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments engine $(if $(SMALL),--small)

marketplace: $(STAMP)  ## the encrypted marketplace's results, an hour or more; SMALL=1: in minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments marketplace $(if $(SMALL),--small)

transformations: $(STAMP)  ## random transformations and their attacks; SMALL=1: in minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments transformations $(if $(SMALL),--small)

# Two test files run at a time. These look at how fast parties notice something, and would slow each other down, so that they
# run alone.
ALONE := $(addprefix tests/mpc/test_,handshake.py rtas.py strangers.py tcp.py tls.py tls_appraisal.py)
PAIRED := $(filter-out tests/mpc tests/support tests/conftest.py tests/__pycache__,$(wildcard tests/*)) $(filter-out $(ALONE),$(wildcard tests/mpc/test_*.py))

test: $(STAMP)  ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PAIRED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(ALONE)

test-pandas-2: $(STAMP) $(PANDAS2)  ## run the tests of readers and listings with pandas 2.3.3
	OMP_NUM_THREADS=1 PYTHONPATH=$(PANDAS2) $(BIN)/python -m pytest -n 2 --dist loadfile $(READERS)

$(PANDAS2): $(STAMP)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ pandas==2.3.3 pytz
	touch $@

fuzz: $(STAMP)  ## ten thousand mutants of every file and message, some hours; MUTANTS=100: minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.support.fuzz --mutants $(or $(MUTANTS),10000)

lint: $(STAMP)  ## check style, and the order of rooms (import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

docs: $(STAMP)  ## build the documentation into docs/_build/html; a warning is an error
	$(BIN)/python -m pip install --quiet --editable '.[test,docs]'
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

clean:  ## remove the environment and run folders
	rm -rf .venv outputs multirun
