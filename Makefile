# One virtual environment, made on demand; needs Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= .demo
PACKAGE ?= autogen_core
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo test check bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.stamp-review ## review the installed autogen_core package (PACKAGE=...); report in .demo/ (killed? run it again)
	@mkdir -p $(DEMO)
	$(BIN)/autogen-coord review $(PACKAGE) --store $(DEMO)/coord.db --out $(DEMO)/report

test: $(VENV)/.stamp-test ## run all tests
	$(BIN)/python -m pytest -q

check: $(VENV)/.stamp-dev ## ruff, import-linter, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: $(VENV)/.stamp-bench ## run every benchmark, one JSON document each
	@set -e; for file in $(wildcard benchmarks/[a-z]*.py); do \
		name=$$(basename $$file .py); echo "== $$name" >&2; \
		$(BIN)/python -m benchmarks.$$name --json; \
	done

clean: ## remove what make made, the virtual environment too
	rm -rf $(VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.stamp-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed: make PYTHON=/path/to/python3.11 ...")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) # one that was half made is made anew
	@touch $@

$(VENV)/.stamp-review: pyproject.toml | $(VENV)/.stamp-venv
	$(PIP) -e '.[review]'
	@touch $@

$(VENV)/.stamp-test: pyproject.toml | $(VENV)/.stamp-venv
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.stamp-dev: pyproject.toml | $(VENV)/.stamp-venv
	$(PIP) -e '.[test,dev]'
	@touch $@

$(VENV)/.stamp-bench: pyproject.toml | $(VENV)/.stamp-venv
	$(PIP) -e '.[bench]'
	@touch $@
