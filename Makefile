# Two commands set everything up by themselves: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What a fit needs, and no compiler; then what development needs on top of it.
WORKSHOP := $(VENV)/.workshop-ready
READY := $(VENV)/.ready
DEMO := out/demo
PYPROJECTS := pyproject.toml runtime/pyproject.toml
# Where `make bench` looks for real images and weights; without them it uses the demo's.
SHARED ?= ../shared
SOURCES := build runtime tests benchmarks docs

.PHONY: demo demo-image cpp cpp-deps arm64 fuzz test test-fast check format lint layers types docs floors \
  pythons fix lock wheels sbom lean bench bench-scaling bench-peers trust clean help

help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

$(WORKSHOP): requirements/workshop.txt $(PYPROJECTS)
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info[:2] <= (3, 12); \
	  sys.exit(None if ok else "make: expected Python 3.10 to 3.12, got " + sys.version.split()[0] \
	  + "; run it as make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/workshop.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e ./runtime -e .
	@touch $@

$(READY): $(WORKSHOP) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

demo: $(WORKSHOP) ## Offline: make images, fit, check, score, evaluate; ends with a report to open
	rm -rf $(DEMO)
	$(BIN)/patchcore-build demo-data $(DEMO)/data
	$(BIN)/patchcore-build fit --dataset $(DEMO)/data --category brushed_plate \
	  --backbone scattering --output $(DEMO)/artifact
	$(BIN)/patchcore-runtime check $(DEMO)/artifact
	$(BIN)/patchcore-runtime score $(DEMO)/artifact $(DEMO)/data/brushed_plate/test/ \
	  --maps $(DEMO)/heatmaps --csv $(DEMO)/scores.csv > $(DEMO)/scores.jsonl
	@echo; head -n 4 $(DEMO)/scores.jsonl; echo "... one line per image in $(DEMO)/scores.jsonl"
	$(BIN)/patchcore-build evaluate $(DEMO)/artifact --dataset $(DEMO)/data --output $(DEMO)/report
	@echo
	@echo "The backbone was 'scattering', which needs no download. An ImageNet network is better at"
	@echo "localisation and subtle texture: --backbone wide_resnet50_2 --weights auto fetches"
	@echo "torchvision's weights once (offline: it says which file to put where)."
	@echo
	@echo "Scores:       $(DEMO)/scores.csv"
	@echo "Heat maps:    $(DEMO)/heatmaps/"
	@echo "Image sheet:  $(DEMO)/report/sheet.png"
	@echo "Report:       $(DEMO)/report/report.html"
	@echo
	@echo "To use the commands yourself: source $(BIN)/activate, then patchcore-build --help"

# The median-scoring image of each kind of defect, with its heat map.
demo-image: demo ## Write docs/demo.png, the README's image, from the demo
	$(BIN)/python docs/make_demo_image.py $(DEMO) docs/demo.png

cpp-deps: ## Install what the C++ runner needs from Debian (root)
	sh ascend310_infer/install_dependencies.sh

cpp: $(READY) cpp-deps ## Build the C++ runner and run its tests (needs a compiler)
	cd ascend310_infer && cmake --preset host
	cmake --build out/host --parallel 2
	ctest --test-dir out/host --output-on-failure

arm64: $(READY) cpp-deps ## Run both programs on emulated arm64 (x86-64 Debian 12); files in out/arm64
	sh tests/emulated/prepare_arm64.sh
	$(BIN)/python -m pytest -n0 -rP tests/emulated
	PATCHCORE_DUMP=out/arm64/bin/dump_preprocess $(BIN)/python -m pytest -n0 \
	  tests/cpp/test_cpp_preprocess.py

FUZZ_SECONDS ?= 300
FUZZ_VENV := out/fuzz-venv
FUZZ_CPP := manifest memory_bank hnsw onnx image exif
FUZZ_PYTHON := manifest memory_bank hnsw onnx image
# Coverage guides Python's fuzzing where atheris can be installed; without it the walk is blind.
$(FUZZ_VENV)/.ready:
	$(PYTHON) -m venv $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/python -m pip install --quiet numpy pillow
	-$(FUZZ_VENV)/bin/python -m pip install --quiet atheris
	@touch $@

fuzz: $(READY) $(FUZZ_VENV)/.ready ## Fuzz what both programs read (clang), FUZZ_SECONDS each; stops at a finding
	sh ascend310_infer/install_dependencies.sh --fuzz
	cd ascend310_infer && cmake --preset fuzz && cmake --build --preset fuzz
	$(BIN)/python tests/support/make_fuzz_corpus.py out/corpus
	for kind in $(FUZZ_CPP); do echo "C++: $$kind"; out/fuzz/fuzz/fuzz_$$kind \
	  -max_total_time=$(FUZZ_SECONDS) -max_len=20000 -rss_limit_mb=3000 \
	  -artifact_prefix=out/corpus/finding-cpp-$$kind- out/corpus/$$kind || exit 1; done
	PYTHONPATH=runtime:tests/support $(BIN)/python tests/support/onnx_differential.py out/corpus/onnx \
	  --seconds $(FUZZ_SECONDS)
	for kind in $(FUZZ_PYTHON); do echo "Python: $$kind"; PYTHONPATH=runtime \
	  $(FUZZ_VENV)/bin/python -W ignore tests/support/fuzz_python.py $$kind out/corpus/$$kind \
	  --seconds $(FUZZ_SECONDS) || exit 1; done

# WITH_CPP=no leaves out the C++ runner, which needs a compiler and Debian's packages.
WITH_CPP ?= yes
WITH_CPP_yes := cpp
# Two workers keep two cores busy (--dist loadfile is no faster: its longest files end alone).
# PYTEST_OPTIONS=-n0 runs one test after the other.
PYTEST_OPTIONS ?= -n 2
test: $(READY) $(WITH_CPP_$(WITH_CPP)) ## Run all tests, the C++ ones too (WITH_CPP=no leaves those out)
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

test-fast: $(READY) ## Run the laws of the layout, the contract and the runtime only
	$(BIN)/python -m pytest $(PYTEST_OPTIONS) tests/repository tests/contract tests/runtime

format: $(READY) ## Check the format
	$(BIN)/ruff format --check $(SOURCES)

lint: $(READY) ## Check for likely mistakes
	$(BIN)/ruff check $(SOURCES)

layers: $(READY) ## Check that rooms import downwards only
	$(BIN)/lint-imports

types: $(READY) ## Check types, strictly
	$(BIN)/mypy

docs: $(READY) ## Build the documentation into out/docs; warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -n docs out/docs

FLOORS := out/floors-venv
$(FLOORS)/.ready: requirements/floors.txt $(PYPROJECTS)
	$(PYTHON) -m venv $(FLOORS)
	$(FLOORS)/bin/python -m pip install --quiet --require-hashes -r requirements/floors.txt
	$(FLOORS)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e ./runtime
	@touch $@

floors: $(FLOORS)/.ready ## Run the runtime's tests with the oldest versions it declares
	PYTHONPATH=$(CURDIR)/build $(FLOORS)/bin/python -m pytest $(PYTEST_OPTIONS) tests/runtime

# Interpreters to try the runtime on; those that are not installed are left out by name.
PYTHONS ?= python3.10 python3.11 python3.12 python3.13 python3.14
pythons: wheels ## Run the runtime's tests on every Python that is installed
	for python in $(PYTHONS); do \
	  command -v $$python >/dev/null || { echo "$$python: not installed"; continue; }; \
	  rm -rf out/$$python && $$python -m venv out/$$python && \
	  out/$$python/bin/python -m pip install --quiet dist/patchcore_runtime-*.whl cryptography \
	    -r requirements/floors.in && \
	  PYTHONPATH=$(CURDIR)/build out/$$python/bin/python -m pytest $(PYTEST_OPTIONS) tests/runtime || exit 1; \
	done

check: format lint layers types docs floors test ## What CI runs, from format to tests

fix: $(READY) ## Format, and mend what the linter can mend
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

# Versions and hashes of everything that is installed, for Python 3.10 to 3.12 on any system.
COMPILE := $(BIN)/uv pip compile --quiet --no-header --generate-hashes
LOCK := $(COMPILE) --group build
UNIVERSAL := --universal --python-version 3.10 --find-links dist --no-emit-find-links \
  --no-emit-package patchcore-runtime --no-emit-package patchcore-build
lock: wheels ## Choose new versions for requirements/*.txt
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) $(UNIVERSAL) pyproject.toml -o requirements/workshop.txt --upgrade
	$(LOCK) $(UNIVERSAL) pyproject.toml --extra dev -c requirements/workshop.txt \
	  -o requirements/dev.txt --upgrade
	$(COMPILE) $(UNIVERSAL) runtime/pyproject.toml -c requirements/workshop.txt \
	  -o requirements/runtime-wheel.txt --upgrade
	$(COMPILE) $(UNIVERSAL) pyproject.toml -c requirements/workshop.txt \
	  -o requirements/build-wheel.txt --upgrade
	$(LOCK) --universal --resolution lowest-direct --python-version 3.10 runtime/pyproject.toml \
	  requirements/floors.in --extra hnsw --extra faiss --extra sign -o requirements/floors.txt

wheels: $(READY) ## Build both wheels into dist/
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist runtime
	$(BIN)/python -m build --wheel --outdir dist .

# What each wheel needs, with versions and hashes of the locks, for whoever must list it.
sbom: wheels ## Write a CycloneDX bill of materials of each wheel into dist/
	$(BIN)/cyclonedx-py requirements requirements/runtime-wheel.txt --pyproject runtime/pyproject.toml \
	  --mc-type library --output-reproducible -o dist/patchcore_runtime.cdx.json
	$(BIN)/cyclonedx-py requirements requirements/build-wheel.txt --pyproject pyproject.toml \
	  --mc-type library --output-reproducible -o dist/patchcore_build.cdx.json

lean: wheels ## Prove that the runtime wheel alone, in an empty environment, scores an image
	rm -rf out/lean && $(PYTHON) -m venv out/lean
	out/lean/bin/python -m pip install --quiet dist/patchcore_runtime-*.whl
	out/lean/bin/patchcore-runtime check artifacts/tiny
	out/lean/bin/patchcore-runtime score artifacts/tiny artifacts/tiny/selftest.png
	out/lean/bin/python -m pip list --format=freeze

# BENCH_OPTIONS="--only score,coldstart" measures some sections again, --quick only tries it.
BENCH_OPTIONS ?=
bench: $(READY) ## Measure on this machine; writes benchmarks/results/results.md and results.json
	$(BIN)/python -m benchmarks.bench --shared $(SHARED) $(BENCH_OPTIONS)

# SCALING_OPTIONS="--only images --images 5000" adds a point.
SCALING_OPTIONS ?=
bench-scaling: $(READY) ## Measure how cost grows with images, coreset and resolution
	$(BIN)/python -m benchmarks.scaling --shared $(SHARED) $(SCALING_OPTIONS)

# TRUST=faults,use runs some sections again; `make fuzz` builds what the section fuzz runs.
TRUST ?= artifacts,images,faults,use,fuzz
trust: $(READY) $(WITH_CPP_$(WITH_CPP)) ## Try to break both programs; writes benchmarks/results/trust.md
	$(BIN)/python -m benchmarks.trust --only $(TRUST) $(TRUST_OPTIONS)

PEERS := out/peers-venv
$(PEERS)/.ready: benchmarks/peers/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --upgrade pip
	$(PEERS)/bin/python -m pip install --quiet -r benchmarks/peers/requirements.txt
	@touch $@

# ONLY=inference,search measures some sections again; PEERS_OPTIONS=--full leaves nothing estimated.
ONLY ?= fit,inference,search,coreset
bench-peers: $(READY) $(PEERS)/.ready ## Measure beside anomalib, faiss and others; writes benchmarks/results/peers.md
	$(BIN)/python -m benchmarks.peers --shared $(SHARED) --only $(ONLY) $(PEERS_OPTIONS)

clean: ## Remove what the other targets made, except .venv
	rm -rf out dist
