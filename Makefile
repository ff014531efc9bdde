# make demo    a real flow on this machine, with nothing configured
# make test-fast   the tests that need no service, no root and no system package
# make test        lint, and every part on its real service at least once: what CI runs;
#                  TESTS="tests/clusters" for some of them, with what those need and no lint
# make coverage    the same tests, and how much of the library they run: less than 90 % fails
# make test-all    every case on every cluster and every Python, and a fresh Debian 13
# make bench   what the runner costs, measured against floors and other tools;
#              PARTS="rates" for a part of it
# make lint    ruff, mypy, spelling, the far side against Python 3.6, links of the docs
# make docs    the documentation, as a site on this machine
# make clean   everything that these made

VENV := .venv
BIN := $(VENV)/bin
TESTS ?= tests
# The tests mostly wait, for schedulers and for time-outs: there may be more workers than cores.
WORKERS ?= 5
# Tests that share a service share a worker (tests/live/grouping.py), the longest groups first.
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup \
	--no-loadscope-reorder --durations=25
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.10 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)

# Hundreds of processes of the tests would compile the same sources.
unexport PYTHONDONTWRITEBYTECODE
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
PIP := $(BIN)/pip install --quiet --quiet --upgrade-strategy only-if-needed

# A developer's own Prefect settings have no part in the demo.
WITHOUT_PREFECT_SETTINGS = env $$(env | sed -n 's/^\(PREFECT_[A-Z0-9_]*\)=.*/-u \1/p')

.PHONY: demo test test-fast coverage test-all bench lint docs clean packages

demo: $(VENV)/.package
	@$(WITHOUT_PREFECT_SETTINGS) PREFECT_HOME="$(CURDIR)/.demo" \
		PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 $(BIN)/python flows/demo.py

ifeq ($(TESTS),tests)
test: lint packages
	@$(PYTEST) $(TESTS)
else
test: $(VENV)/.services
	@$(BIN)/python -m tests.live.packages $(TESTS)
	@$(PYTEST) $(TESTS)
endif

test-fast: $(VENV)/.test
	@$(PYTEST) -m "not service" $(TESTS)

coverage: lint packages
	@$(PIP) --group coverage
	@rm -rf build/far_lines && mkdir -p build/far_lines && $(BIN)/python -m tests.live.far_lines start
	@# Agents of this machine take the first Python of the PATH.
	@PATH="$(CURDIR)/$(BIN):$$PATH" FAR_LINES=$(CURDIR)/build/far_lines \
		COVERAGE_CORE=$$($(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")') \
		$(PYTEST) --cov --cov-report= --cov-fail-under=0 $(TESTS); ended=$$?; \
		$(BIN)/python -m tests.live.far_lines add build/far_lines \
		&& $(BIN)/coverage report --skip-covered && exit $$ended

test-all: lint packages
	@$(PYTEST) --every $(TESTS)
	@$(BIN)/python -m tests.live.debian13

bench: $(VENV)/.bench packages
	@$(BIN)/python -m tests.bench $(PARTS)

lint: $(VENV)/.services $(VENV)/.docs
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@mkdir -p build && $(MAKE) --no-print-directory --jobs \
		lint-types lint-spelling lint-imports lint-far-side lint-docs
	@echo "lint: ruff, mypy --strict, Python 3.6 on the far side and the docs' links are content"

# What takes its time, side by side.
.PHONY: lint-types lint-spelling lint-imports lint-far-side lint-docs
lint-types:
	@$(BIN)/mypy --no-error-summary

lint-spelling:
	@$(BIN)/codespell

lint-imports:
	@$(BIN)/lint-imports >build/imports.log 2>&1 || { cat build/imports.log; exit 1; }

lint-far-side:
	@# asyncio.run and dataclasses stand behind a check of what is there.
	@$(BIN)/vermin --quiet --target=3.6- --violations --no-tips \
		--exclude asyncio.run --exclude dataclasses --exclude typing.Concatenate \
		--exclude typing.ParamSpec --exclude typing.TypedDict clustrix_prefect/far_side

lint-docs:
	@# What makes the documentation needs Python 3.11.
	@if [ ! -x $(BIN)/zensical ]; then echo "lint: the docs were not looked at"; \
		else NO_COLOR=1 $(BIN)/zensical build --config-file .zensical.toml --clean --strict \
		>build/docs.log 2>&1 || { cat build/docs.log; exit 1; }; fi

docs: $(VENV)/.docs
	@$(BIN)/zensical serve --config-file .zensical.toml

packages: $(VENV)/.services
	@$(BIN)/python -m tests.live.packages

clean:
	rm -rf $(VENV) .demo .bench .mypy_cache .pytest_cache build dist .ruff_cache .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the virtual environment ----------------------------------------------------------------

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.10 to 3.13 on the PATH."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(MAKE) --no-print-directory venv-package
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade 'pip>=25.1'  # the first that knows dependency groups

.PHONY: venv-package
venv-package:  # Debian keeps it apart from Python
	@apt-get install -qq -y python3-venv >/dev/null 2>&1 \
		|| { apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null; }

$(VENV)/.package: pyproject.toml | $(BIN)/python
	@echo "Installing the package"
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.package
	@echo "Installing what the tests need"
	@$(PIP) --group test
	@touch $@

$(VENV)/.services: $(VENV)/.test
	@echo "Installing what lint and the tests of services need"
	@$(PIP) --group services --group lint
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	@echo "Installing what the documentation is made with"
	@$(PIP) --group docs
	@touch $@

$(VENV)/.bench: $(VENV)/.services
	@echo "Installing what the benchmark compares with"
	@$(PIP) --group bench
	@touch $@
