# Everything starts from a fresh machine with Python 3.11 or later: each target sets up .venv first if it has to.
PYTHON ?= python3
# The pinned build. With a GPU, name the one that fits it, such as: make demo TORCH="torch==2.13.0 --index-url …"
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format lint types imports bench evidence clean

demo: $(READY)
	$(BIN)/keepshot demo --output runs/demo

test: $(READY)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

check: lint types imports test

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.anchors
	$(BIN)/python -m benchmarks.retention

# make evidence MODEL=Qwen/Qwen2.5-0.5B [DATA=folder] [OUTPUT=folder]; docs/evidence.md
evidence: $(READY)
	$(if $(MODEL),,$(error name a model: make evidence MODEL=Qwen/Qwen2.5-0.5B))
	$(BIN)/python -m benchmarks.evidence "$(MODEL)" $(if $(DATA),--data "$(DATA)") $(if $(OUTPUT),--output "$(OUTPUT)")

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,bench,dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
