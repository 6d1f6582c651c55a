# Every command there is. `make run` and `make test` need Linux, Python >= 3.11 and a package index, nothing else.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help setup run check test test-long bench bench-gpu validation results crds chart images lock lock-cpu clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## make the virtual environment from the lock files

$(STAMP): locks/uv.txt locks/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ada-operator needs Python >= 3.11, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement locks/uv.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode --system-certs --require-hashes --requirement locks/dev.txt
	VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --system-certs --no-deps --no-build-isolation --editable .
	$(BIN)/python -m ada_sim compile
	touch $@

run: setup ## train the quickstart on this machine and write its report
	$(BIN)/ada run examples/quickstart.yaml

check: setup ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup ## every test this machine can run; builds the test cluster's programs once
	$(BIN)/python tests/prepare.py
	$(BIN)/python -m pytest

test-long: setup ## the long searches and property runs as well
	$(BIN)/python tests/prepare.py
	ADA_TEST_LONG=1 $(BIN)/python -m pytest

bench: setup ## measure beside the yardsticks, about 15 minutes; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks all

bench-gpu: setup ## acting and learning on a GPU beside eager float32; prints rows, needs a CUDA device
	$(BIN)/python -m benchmarks.gpu

validation: setup ## our learner beside a published PPO on tasks that others know, 3 seeds (hours); docs/validation keeps them
	$(BIN)/python -m benchmarks.validation

results: setup ## train the examples over seeds; writes docs/results.md (about two hours)
	$(BIN)/python -m benchmarks.results

crds: setup ## write crds/, the reference page and the chart's copy from the models
	$(BIN)/python -m ada_api.crd
	$(BIN)/python charts/generate.py

chart: setup ## write what the chart takes from elsewhere: its CRD template and its table of values
	$(BIN)/python charts/generate.py

images: ## build the container images with docker, podman or buildah
	$(PYTHON) images/build.py

RESOLVE := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-find-links --no-header --python-version 3.11

lock: setup ## resolve the lock files anew: everything, and of that what each image needs
	$(RESOLVE) --upgrade --universal --no-emit-index-url pyproject.toml --extra dev --output-file locks/dev.txt
	for part in operator:operator curriculum:curriculum sim:simulator trainer:trainer; do \
		$(RESOLVE) --universal --no-emit-index-url pyproject.toml --extra $${part%:*} --constraint locks/dev.txt \
			--output-file locks/$${part#*:}.txt || exit; done
	echo "hatchling==1.33.0" | $(RESOLVE) --universal --no-emit-index-url - --constraint locks/dev.txt --output-file locks/build.txt
	$(RESOLVE) --upgrade --universal --no-emit-index-url benchmarks/peers/requirements.in --output-file locks/bench.txt

lock-cpu: setup ## the lock file of a trainer image without CUDA, from PyTorch's own index
	$(RESOLVE) --emit-index-url --extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match \
		--python-platform x86_64-manylinux_2_28 pyproject.toml --extra trainer --output-file locks/trainer-cpu.txt

clean: ## remove what was built here (runs/ stays)
	rm -rf .venv .venv-bench build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
