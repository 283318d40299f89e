# The five things people do: study, test, book, bench, clean (check, lint and test-gpu on their own).
# Each does its own set-up; a machine needs Python >= 3.11, make and git.

PYTHON ?= python3
# Which file of experiments/profiles says how much is run.
PROFILE ?= quick
# Folder of a dataset and file of ImageNet weights, for notebooks that read one.
DATA_ROOT ?=
WEIGHTS ?=

BIN := .venv/bin
# The packages of .venv and no others, whatever a module system or another tool has set.
unexport PYTHONPATH PYTHONHOME
NOTEBOOKS = $(BIN)/emastudy study --profile $(PROFILE) \
	$(if $(DATA_ROOT),--data-root "$(DATA_ROOT)") $(if $(WEIGHTS),--weights-path "$(WEIGHTS)")
# -W -n: a link, figure, citation or equation that points nowhere fails the build.
BUILD = $(BIN)/jupyter-book build book -W -n --keep-going -q

PYTEST = $(BIN)/python -m pytest
# In three processes on two cores, since some of the time is waiting: for Slurm, a browser, other
# processes. The tests of a file stay together, see tests/conftest.py. (Not by groups: of those
# pytest-xdist 3.8 knows nothing under pytest 9.2, and says so nowhere.)
PARALLEL = -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help study book test check test-gpu lint style bench clean
help:
	@echo "make study   set up, run every notebook live (PROFILE=$(PROFILE)), build the book"
	@echo "make book    build the book from what is recorded (PROFILE=scenes in a fresh clone)"
	@echo "make check   while one works: lint, types, the tests that are fast"
	@echo "make test    set up, lint, types, all tests"
	@echo "make test-gpu   the tests that want a GPU"
	@echo "make lint    formatting, lint, types, import order, findings against records"
	@echo "make bench   time the EMA unit, a training step, what checkpoints cost, a sweep;"
	@echo "             the tables are kept in benchmarks/results, with the machine"
	@echo "make clean   remove what was built (runs and records stay)"

study: .venv/study
	$(NOTEBOOKS) --jobs 2
	$(BUILD)
	@echo "Open book/_build/html/index.html"

book: .venv/study
	$(NOTEBOOKS) --executor none --jobs 2
	$(BUILD)
	@echo "Open book/_build/html/index.html"

test: .venv/dev style
	$(PYTEST) $(PARALLEL) -m "not unchecked"
	SHAPE_CHECKS=0 $(PYTEST) $(PARALLEL) -m unchecked $$(grep -rl mark.unchecked --include="test_*.py" tests)

# While one works: a test takes part unless its file is in tests/slow.txt.
check: .venv/dev lint
	$(PYTEST) $(PARALLEL) -m "not slow and not unchecked"

# Without shape checks: torch.compile cannot see through them.
test-gpu: .venv/dev
	SHAPE_CHECKS=0 $(BIN)/python -m pytest -s tests/engine/test_gpu.py tests/benchmarks/test_fused.py

# make test has a test that holds the findings against the records.
lint: style
	$(BIN)/emastudy findings --check

style: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/dev
	$(BIN)/python -m benchmarks.units
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.safety
	$(BIN)/python -m benchmarks.sweeping

clean:
	rm -rf book/_build book/notebooks book/generated build dist .pytest_cache .mypy_cache .ruff_cache
	rm -rf experiments/records/smoke experiments/records/quick

# pip is told the exact versions of the committed results; pyproject.toml says what is needed.
# A .venv that is broken (its Python has gone) is made anew, one without pip is given it.
.venv/study .venv/dev: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(NEW_ENOUGH)' "make PYTHON=python3.11 $(MAKECMDGOALS)"
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv || $(NO_VENV)
	@$(BIN)/python -c '$(NEW_ENOUGH)' "rm -r .venv; make PYTHON=python3.11 $(MAKECMDGOALS)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip || $(NO_VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(notdir $@)]"
	@touch $@

# Read by old Pythons too.
NEW_ENOUGH = import sys; sys.exit(sys.version_info < (3, 11) and "emastudy needs Python >= 3.11; " \
	+ sys.executable + " is " + sys.version.split()[0] + ". Try: " + sys.argv[1])
NO_VENV = { echo "no environment with pip can be made in .venv: install Python's ensurepip" \
	"(on Debian and Ubuntu the package python3-venv), rm -r .venv, and run make again"; exit 1; }
