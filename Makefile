# Every target makes .venv if it must; nothing is installed outside it, but with SYSTEM_TORCH=1.

SHELL := /bin/bash
CANDIDATES := python3 python3.11 python3.12 python3.13 python3.14
PYTHON ?= $(shell for p in $(CANDIDATES); do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ifeq ($(SYSTEM_TORCH),1)
# For a machine whose Python has torch and the tools (one with a GPU, say): nothing is fetched, and
# the package goes into that Python. A .venv made from a Python that is itself a venv has no torch.
PY := $(PYTHON)
BIN := $(shell $(PYTHON) -c "import sysconfig; print(sysconfig.get_path('scripts'))")
INSTALLED := build/.installed
else
PY := .venv/bin/python
BIN := .venv/bin
INSTALLED := .venv/.installed
endif
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
SOURCES := $(wildcard csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu csrc/*/*/*.h csrc/*/*/*.cpp)
EMULATOR := $(wildcard tests/support/emulator/*.h tests/support/emulator/*.cpp)
PYTHON_CODE := setup.py pixelsr kernels benchmarks experiments docs examples tests
DEVICE = $(shell $(PY) -c "import re, torch; \
	name = torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu'; \
	print(re.sub('[^a-z0-9]+', '-', name.lower()))")

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow sanitize lint format docs experiments bench gpu clean

help:  ## show this
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 13

venv: $(INSTALLED)  ## make .venv: the pinned torch, the package, the tools

ifeq ($(SYSTEM_TORCH),1)
TORCH :=
INSTALL := --no-deps --no-build-isolation -e .
else
# torch comes first and alone: whatever is installed later finds it there and keeps it.
TORCH := .venv/.torch
$(TORCH): constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or later was found; try make PYTHON=..." >&2; exit 1; }
	@echo "making .venv with $$($(PYTHON) --version)"
	$(PYTHON) -m venv .venv
	$(PIP) -c constraints.txt setuptools wheel ninja
	$(PIP) -c constraints.txt torch==2.13.0
	@touch $@
INSTALL := -c constraints.txt --no-build-isolation -e ".[dev]"
endif

$(INSTALLED): $(TORCH) pyproject.toml setup.py $(SOURCES)
	$(PIP) $(INSTALL)
	@$(PY) -c "from pixelsr import ops; \
	print('C++ kernels:', ops.WHY_NOT_COMPILED or 'built'); \
	print('CUDA kernels:', ops.WHY_NO_CUDA or 'built')"
	@mkdir -p $(@D) && touch $@

demo: venv  ## enlarge the bundled sample faces into out/demo
	$(BIN)/pixelsr enlarge pixelsr/samples/*.png -o out/demo --samples 4

test: venv  ## run the tests, on all processors
	PIXELSR_EXPECT_EXTENSION=1 $(PY) -m pytest -q -n auto --dist worksteal

test-slow: venv  ## run the tests that take minutes
	PIXELSR_EXPECT_EXTENSION=1 $(PY) -m pytest -q -m slow -n auto --dist worksteal

SANITIZED := build/sanitized
sanitize: venv  ## run the tests with the C++ kernels under AddressSanitizer and UBSan
	PIXELSR_SANITIZE=1 $(PY) setup.py -q build_ext --build-lib $(SANITIZED) \
		--build-temp $(SANITIZED)-objects
	LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	PIXELSR_EXTENSION=$$(echo $(SANITIZED)/pixelsr/_C*.so) PIXELSR_EXPECT_EXTENSION=1 \
	$(PY) -m pytest -q $(TESTS)

lint: venv  ## check style and types
	$(BIN)/ruff check $(PYTHON_CODE)
	$(BIN)/ruff format --check $(PYTHON_CODE)
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(SOURCES) $(EMULATOR)

format: venv  ## rewrite the code in the project's style
	$(BIN)/ruff check --fix $(PYTHON_CODE)
	$(BIN)/ruff format $(PYTHON_CODE)
	$(BIN)/clang-format -i $(SOURCES) $(EMULATOR)

docs: venv  ## write the pages of the commands from their help
	$(PY) -m docs.commands

# Each goes on where it was stopped. DATA holds mnist/ and faces/; SCALE=paper is for a GPU.
DATA ?= data
SCALE ?= small
EXPERIMENTS := $(addprefix experiment-,corner-digits faces completion ablation real-or-fake \
	receptive-field)
STEPS :=
ifeq ($(SCALE),small)
# A part of what the documents report, for the sake of the hour.
experiment-ablation experiment-receptive-field: STEPS := --steps 1000
endif
.PHONY: $(EXPERIMENTS)
$(EXPERIMENTS): experiment-%: venv
	@echo "== $*"
	$(PY) -m experiments $* --data $(DATA) --out out/experiments/$* --scale $(SCALE) $(STEPS)
experiments: $(EXPERIMENTS)  ## do all experiments, in an hour on two cores (DATA=, SCALE=)

bench: venv  ## measure this machine into benchmarks/results
	@mkdir -p benchmarks/results
	$(PY) -m pytest benchmarks -m "" --benchmark-json=benchmarks/results/$(DEVICE).json

# Its first step installs the package, built for that GPU alone. GPU="--resume --minutes 9", say.
GPU :=
gpu: $(if $(filter 1,$(SYSTEM_TORCH)),,venv)  ## build, measure and test on a GPU (SYSTEM_TORCH=1, GPU=)
	$(PY) -m benchmarks.tools.gpu $(GPU)

clean:  ## remove what was built, .venv included
	rm -rf .venv build dist out *.egg-info pixelsr/*.so .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
