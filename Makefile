# `make demo`, `make demo-text`, `make demo-tasks`, `make test` do all the set-up. `make VENV= demo` uses the interpreter that is there
# (PYTHON, default python3) and installs nothing.
VENV ?= .venv
PYTHON ?= python3

ifeq ($(strip $(VENV)),)
PY := $(PYTHON)
READY :=
else
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
endif

.PHONY: demo demo-text demo-tasks test test-all lint types help
help:
	@echo "make demo | demo-text | demo-tasks | test | test-all | lint | types     (VENV= uses the interpreter that is there)"

$(VENV)/.ready: setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "Python 3.11 to 3.13 is needed, found " + sys.version.split()[0] + "; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	$(PY) scripts/demo.py digits

demo-text: $(READY)
	$(PY) scripts/demo.py text

demo-tasks: $(READY)
	$(PY) scripts/demo_tasks.py

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(READY)
	$(PY) -m mypy

test: lint types
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The same and what takes longer: many kills, many processes, long trainings.
test-all: lint types
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m ""
