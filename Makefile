# One command does each job from a fresh clone: Python 3.11 or newer (with venv), git and make suffice.
PYTHON ?= python3
BIN    := .venv/bin
UV     := VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv
ARGS   ?=
# glibc's cache of small free blocks off: the heap that trainer.keep_mb keeps gets no holes (docs/benchmarks.md)
HEAP   := GLIBC_TUNABLES=glibc.malloc.tcache_count=0
# what make photos trains on: one's own folder, or VOC2007 where TOYFCN_VOC says where it is
PHOTOS := $(if $(findstring data.images=,$(ARGS)),folder,$(if $(TOYFCN_VOC),voc2007,folder))_finetune
# tests in two processes of one thread each: tiny networks gain nothing from more
TESTS  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup train photos test test-slow lint format bench docs tensorboard lock clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.run .venv/.dev .venv/.editable ## install everything, development extras too, into .venv

train: .venv/.run .venv/.editable ## draw the shapes world, train the FCN-LeNet on it, score it (ARGS="key=value …")
	$(HEAP) $(BIN)/toyfcn-train experiment=shapes_lenet $(ARGS)

photos: .venv/.imagenet .venv/.editable ## fine-tune an ImageNet classifier on your photos (ARGS="data.images=… data.masks=…"), or on VOC2007 (TOYFCN_VOC)
	$(HEAP) $(BIN)/toyfcn-train experiment=$(PHOTOS) $(ARGS)

test: setup ## run the fast tests (ARGS="-k name")
	$(TESTS) -m "not slow" $(ARGS)

test-slow: setup ## run the slow tests too
	$(TESTS) -m slow $(ARGS)

lint: setup ## check style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: setup ## put the code into its one format
	$(BIN)/ruff check --fix-only . ; $(BIN)/ruff format .

bench: setup ## measure everything side by side, in minutes (TOYFCN_VOC for real photos; ARGS="--quick")
	$(HEAP) $(BIN)/python benchmarks/bench.py $(ARGS)

docs: setup ## build the site of docs/ into site/ (open site/index.html)
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet $(ARGS)

tensorboard: .venv/.run ## look at the curves of all runs under outputs/
	$(BIN)/tensorboard --logdir outputs $(ARGS)

lock: .venv/.uv ## resolve the pins and hashes anew from pyproject.toml
	$(UV) pip compile -q pyproject.toml --extra build --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade -o requirements.lock
	$(UV) pip compile -q pyproject.toml --extra imagenet -c requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements-imagenet.lock
	$(UV) pip compile -q pyproject.toml --extra dev -c requirements-imagenet.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements-dev.lock

clean: ## remove the environment and caches (runs under outputs/ and data/ stay)
	rm -rf .venv dist build site .pytest_cache .mypy_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# ---- set-up: each stamp is made again only when the file behind it changed ----
.venv/.uv:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("toyfcn needs Python 3.11 or newer; set PYTHON=… to choose one")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q uv==0.13.9
	@touch $@

.venv/.run: requirements.lock | .venv/.uv
	@echo "installing into .venv: 5 GB, most of it PyTorch for GPUs, in minutes"
	$(UV) pip install --require-hashes --compile-bytecode -r requirements.lock
	@touch $@

.venv/.imagenet: requirements-imagenet.lock | .venv/.run
	$(UV) pip install -q --require-hashes --compile-bytecode -r requirements-imagenet.lock
	@touch $@

.venv/.dev: requirements-dev.lock | .venv/.uv
	$(UV) pip install --require-hashes --compile-bytecode -r requirements-dev.lock
	@touch $@

.venv/.editable: pyproject.toml | .venv/.run
	$(UV) pip install -q --no-deps --no-build-isolation -e .
	@touch $@
