# One command each. VENV and PYTHON may be overridden: make demo PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
# On a GPU machine: make demo CONSTRAINTS=/dev/null
CONSTRAINTS ?= constraints-cpu.txt
BIN := $(VENV)/bin

.PHONY: install demo test redteam check lint clean

$(BIN)/.installed: pyproject.toml setup.py $(wildcard $(CONSTRAINTS))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[test,dev]'
	touch $@

install: $(BIN)/.installed  ## virtual environment with the project and its test tools

demo: install  ## the main job: grade the example rms_norm on the shapes of every model
	$(BIN)/pytest --fk-target=rms_norm --fk-candidates=examples/candidates

test: install  ## this project's own tests
	$(BIN)/pytest

redteam: install  ## adversarial candidates and their honest twins: expected and given verdicts; all CLASSES, or some
	$(BIN)/python tests/redteam/run.py $(CLASSES)

check: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
