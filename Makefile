# `make help` lists the targets. Everything is installed in .venv and built in _build; chapters may download MNIST
# into a per-user cache.
PYTHON ?= python3
# The versions everything was tested with; `make CONSTRAINTS= book` takes the newest (name it at every command).
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
# Modules, not the scripts beside Python: these hold the folder's path and do not survive its move.
RUN := $(BIN)/python -m
BUILD := $(BIN)/python -c "from jupyter_book.cli.main import main; main()" build . -W -n --keep-going
# PyTorch's threads spin while they wait for each other: beside another busy process, training small networks in
# the chapters would take many times as long.
CALM := GOMP_SPINCOUNT=1000
# For the tests: one worker for each core, with one thread each.
ALONE := OMP_NUM_THREADS=1

# Which lines the tests run is counted where Python does so at little cost, from 3.12 on.
COUNTED = $(shell $(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 12))" && echo --cov)

# Matplotlib warns of a home folder that it cannot write to, which fails the build. install.py does the same.
CLOSED := $(shell test -d "$$HOME" || echo missing; for folder in "" .cache .config .cache/matplotlib \
  .config/matplotlib; do ! test -d "$$HOME/$$folder" || test -w "$$HOME/$$folder" || echo closed; done)
ifneq ($(CLOSED),)
export HOME := $(CURDIR)/.venv/home
endif

.PHONY: help book chapter check test coverage lint torture gpu portability lowest colab newest pdf strip clean
.PHONY: install which

help:
	@echo "make book            install into .venv at the first time, then build the book"
	@echo "make chapter N=4     run one chapter and show its page, without building all"
	@echo "make check           style and quick unit tests, no chapters"
	@echo "make test            style, the book (warnings are errors), all tests, every page in a browser"
	@echo "make coverage        the lines of the package that no test runs"
	@echo "make lint            style, types, imports"
	@echo "make torture         every public function with 10,000 drawn arguments; ARGS='...' for its options"
	@echo "make gpu             the package's tests on a CUDA device, and all that is measured there, into _build/gpu"
	@echo "make portability     the chapters' numbers under other conditions; ARGS='...' for its options"
	@echo "make pdf             the book as one PDF; needs Chromium"
	@echo "make lowest          the package's tests with the lowest versions that are supported"
	@echo "make colab           the same with the versions of Google Colab"
	@echo "make newest          the same with the newest versions"
	@echo "make strip           take the outputs out of the chapters, and fold the cells that have a title"
	@echo "make clean           remove what was built; .venv stays"
	@echo "Settings: PYTHON=python3.12 makes .venv with that Python, CONSTRAINTS= takes the newest packages."

book: install
	$(CALM) $(BUILD)
	@echo
	@echo "The book is in _build/html/index.html. To serve it:"
	@echo "  $(RUN) http.server --directory _build/html 8000   # then open http://localhost:8000"

chapter: which install
	$(CALM) $(BIN)/python book/_ext/chapter.py $(N)

# Asked before minutes of installing.
which:
	@known=$$(ls book | sed -n 's/^0*\([0-9][0-9]*\|[A-Z]\)_.*[.]ipynb$$/\1/p' | tr '\n' ' '); \
	for one in $$known; do test "$$one" = "$(N:0%=%)" && exit 0; done; \
	test -z "$(N)" || echo "There is no chapter $(N)."; \
	echo "Which chapter? make chapter N=4, for example; there are $$known"; exit 2

check: lint
	$(ALONE) $(RUN) pytest -W error tests --ignore tests/browser -m "not slow" -n auto --dist loadgroup

# The book first: some tests look at the pages. The cells of a chapter, as the tests of a file, stay with one worker.
test: lint book
	$(ALONE) $(if $(COUNTED),COVERAGE_CORE=sysmon) $(RUN) pytest -W error -n auto --dist loadgroup $(COUNTED)

# The same without the book, on any Python.
coverage: install
	$(ALONE) $(RUN) pytest -W error tests --ignore tests/browser --ignore tests/book -n auto --dist loadgroup --cov

lint: install
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(BIN)/python -c "from importlinter.cli import lint_imports_command as main; main()" --no-cache

portability: install
	$(BIN)/python book/_ext/portability.py $(ARGS)

# Resumes at the entry point where it was stopped; --cases 100 --only density is a short one.
torture: install
	$(ALONE) $(BIN)/python tests/torture.py $(ARGS)

# What is to be run where a GPU is at hand, the quickest first. The files go to benchmarks/, with the device in their
# names. `make -o install gpu BIN=/usr/bin` takes a Python that has everything already.
gpu: install
	@$(BIN)/python -c "import sys, torch; torch.cuda.is_available() or sys.exit('There is no CUDA device here.')"
	for section in layer small tiles networks; do \
	  $(RUN) ugmm_tutorial bench --device cuda --only $$section --output _build/gpu/$$section.csv || exit 1; done
	$(RUN) ugmm_tutorial bench --device cuda --only limit operator accuracy step memory scaling \
	  --output _build/gpu/gpu.csv
	$(ALONE) $(RUN) pytest -W error tests --ignore tests/browser --ignore tests/book -n 4 --dist loadgroup

lowest colab newest: install
	$(ALONE) $(BIN)/python book/_ext/environments.py $@ $(ARGS)

pdf: book
	$(BIN)/python book/_ext/pdf.py

# As they are committed.
strip: install
	$(RUN) nbstripout --keep-id --extra-keys "metadata.language_info" book/*.ipynb
	$(BIN)/python book/_ext/folds.py

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis

install:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON). Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3 ..."; exit 1; }
	@$(PYTHON) book/_ext/install.py --constraints "$(CONSTRAINTS)"
