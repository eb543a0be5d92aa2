# `make demo` runs the miniature grid, `make test` runs lint and all tests. Each sets up all it needs in .venv.

PYTHON ?= python3
VENV ?= .venv
# Where torch's CPU build comes from if the machine's own package configuration has none.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
TORCH := $(shell sed -n 's/^torch==//p' envs/cpu.txt)
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Workers of the tests.
JOBS ?= 2

.PHONY: demo demo-seeds test bench bench-kills env-controller env-gpu check-envs pin figures help

help:
	@sed -n '/^[a-z-]*:.*##/s/:.*##/:/p' Makefile

demo: $(READY) ## the miniature grid, one seed: about ten minutes on two CPU cores
	$(BIN)/snakemake --profile demo
	@$(MAKE) --no-print-directory report
	@$(BIN)/gapgrid page demo >/dev/null
	@$(BIN)/gapgrid summary demo

demo-seeds: $(READY) ## seeds 1 and 2 as well; only the new cells run
	$(BIN)/snakemake --profile demo --config grid=demo 'seeds=[0,1,2]'
	@$(MAKE) --no-print-directory report SEEDS="--config grid=demo seeds=[0,1,2]"
	@$(BIN)/gapgrid page demo --seeds 0 1 2 >/dev/null
	@$(BIN)/gapgrid summary demo --seeds 0 1 2

# Only if a figure or table is newer than the report.
.PHONY: report
report: $(READY)
	@if [ ! -f results/demo/report.html ] || [ -n "$$(find results/demo/figures results/demo/tables -newer results/demo/report.html)" ]; then \
	  $(BIN)/snakemake --profile demo $(SEEDS) --report results/demo/report.html; \
	fi

test: $(READY) ## lint and all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

bench: $(READY) ## plan times, the demo's time split, a light job's cost
	$(BIN)/python bench/bench.py

bench-kills: $(READY) ## kill runs at random moments and compare what they end with; hours, goes on where it stopped
	$(BIN)/python -m bench.kills

# uv where there is one, as it is quicker.
define make-venv
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(1)/bin/python -r $(2); \
	  else $(1)/bin/python -m pip install --quiet --disable-pip-version-check -r $(2); fi
endef

env-controller: ## .venv-controller: plans, submits and grades on a login node, without torch
	$(call make-venv,.venv-controller,envs/controller.txt)
	.venv-controller/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . --editable ./plugins/slurm

env-gpu: ## .venv-gpu: trains, answers and judges on GPU nodes; grids with `environment: gpu` use it when it is there
	$(call make-venv,.venv-gpu,envs/gpu.txt)

check-envs: ## resolve each lock without installing it; says what conflicts
	@for lock in envs/cpu.txt envs/controller.txt envs/gpu.txt; do echo "$$lock"; \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --dry-run --ignore-installed -r $$lock || exit 1; done

pin: $(READY) ## every revision `main` of config/GRID (default paper) becomes the commit it stands for; needs the hub
	$(BIN)/python -m gapgrid.commands.pin config/$(or $(GRID),paper)

figures: $(READY) ## the README's pictures, from the results of demo-seeds
	$(BIN)/python docs/pictures.py

# The CPU build of torch carries the local version +cpu, which no CUDA build has: so none is ever taken by surprise.
$(READY): envs/cpu.txt pyproject.toml plugins/slurm/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==$(TORCH)+cpu" 2>/dev/null \
	  || $(BIN)/python -m pip install --disable-pip-version-check --extra-index-url $(TORCH_INDEX) "torch==$(TORCH)+cpu"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/cpu.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . --editable ./plugins/slurm
	@touch $@
