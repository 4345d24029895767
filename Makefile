# The two commands: `make book` and `make test`. Everything is installed in .venv and built in _build;
# chapters may download MNIST into a per-user cache.
PYTHON ?= python3
# The versions everything was tested with; `make CONSTRAINTS= book` in a fresh clone takes the newest.
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: book pdf test lint strip clean

# PyTorch's threads spin while they wait for each other: beside another busy process, training small networks in the
# chapters would take many times as long.
book: $(READY)
	GOMP_SPINCOUNT=1000 $(BIN)/jupyter-book build . -W -n --keep-going
	@echo
	@echo "The book is in _build/html/index.html. To serve it:"
	@echo "  $(BIN)/python -m http.server --directory _build/html 8000   # then open http://localhost:8000"

# The same pages as one PDF; needs Chromium.
pdf: book
	$(BIN)/python book/_ext/pdf.py

# The book first: some tests look at the pages. One worker for each core, with one thread each; the cells of a
# chapter, as the tests of a file, stay with one worker.
test: $(READY) lint book
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Take the outputs out of the chapters, as they are committed.
strip: $(READY)
	$(BIN)/nbstripout --keep-id --extra-keys "metadata.language_info" book/*.ipynb

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name another with: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e ".[dev]"
	@touch $@
