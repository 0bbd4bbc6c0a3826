# One command each. VENV and PYTHON may be overridden: make demo PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
# On a GPU machine: make demo CONSTRAINTS=/dev/null
CONSTRAINTS ?= constraints-cpu.txt
BIN := $(VENV)/bin
# Tests at a time: a core each, at least two (a test often waits for a worker process), at most four (memory).
JOBS ?= $(shell n=$$(nproc 2> /dev/null || echo 2); [ $$n -lt 2 ] && n=2; [ $$n -gt 4 ] && n=4; echo $$n)
# More arguments of pytest: make test ARGS='tests/plugin -x'
ARGS ?=
PYTEST := $(BIN)/pytest -n $(JOBS) --dist worksteal --durations=20 $(ARGS)
# mypy of 2.0 and later checks with several processes.
MYPY_WORKERS = $(shell $(BIN)/mypy --help 2> /dev/null | grep -q -e --num-workers && echo --num-workers 2)

.PHONY: install demo demo-all test test-all test-quick redteam redteam-sample check lint ci clean

$(BIN)/.installed: pyproject.toml setup.py .ci/ci_install.py $(wildcard $(CONSTRAINTS))
	$(PYTHON) .ci/ci_install.py $(VENV) --constraint $(CONSTRAINTS)
	touch $@

install: $(BIN)/.installed  ## virtual environment with the project and its test tools

demo: install  ## the main job: grade the example rms_norm on the shapes of Llama 3.1 8B
	$(BIN)/pytest --fk-target=rms_norm --fk-model=llama31-8b --fk-candidates=examples/candidates

demo-all: install  ## the same on the shapes of every model, some minutes
	$(BIN)/pytest --fk-target=rms_norm --fk-candidates=examples/candidates

test: install  ## this project's own tests, as CI runs them
	$(PYTEST)

test-all: install  ## every test, the exhaustive ones too: before an issue is called done
	FASTKERNELS_TESTS=all $(PYTEST)

test-quick: install  ## those that take under 90 s together: while working
	FASTKERNELS_TESTS=quick $(PYTEST)

redteam: install  ## adversarial candidates and their honest twins: expected and given verdicts; all CLASSES, or some
	$(BIN)/python tests/redteam/run.py $(CLASSES)

redteam-sample: install  ## a quarter of them, by the commit, and what the last changes touch: as CI runs them
	$(BIN)/python tests/redteam/run.py --sample HEAD --changed auto

check: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy $(MYPY_WORKERS)

ci:  ## all of CI: a new virtual environment, check, test, demo, red team sample, and what each part cost
	.ci/run

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
