# Everything a person or CI does here. Needs Python >= 3.11 with venv, a C compiler and make.
#
# PYTHON is the interpreter that the environment in .venv is made with: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.built

KERNEL_SOURCES := $(wildcard balacoon_tk/*/_*.pyx balacoon_tk/*/*/_*.pyx)
KERNEL_PARTS := $(wildcard balacoon_tk/*/*.pxd balacoon_tk/*/*/*.pxd balacoon_tk/*/*/src/*.[ch])
KERNELS := $(subst /,.,$(KERNEL_SOURCES:.pyx=))
KERNEL_TESTS := $(wildcard $(patsubst _%.pyx,tests/test_%.py,$(notdir $(KERNEL_SOURCES))) tests/test_kernels_*.py)

# cython-lint calls pycodestyle by its name.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MPLBACKEND := Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo picture notebooks notebook-times lab test lint typecheck test-debug test-release test-aarch64 \
    test-clang test-minimum test-without-gil test-wheels wheels chroots browser-test ray-test docs docs-look docs-code sanitize sanitize-threads \
    coverage mutants fuzz soak kills cuts piper-ids word-boundaries bench bench-passes bench-decoders bench-native \
    bench-live bench-serve bench-corpus bench-guards peers clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv, install everything, build the kernels

# Built again when a kernel or the list of dependencies changes; Python files are used where they are. Without
# isolation pip doesn't bring what a source distribution names by setup_requires, nor does setuptools since 84:
# that is NumPy, for pesq.
$(STAMP): pyproject.toml setup.py $(KERNEL_SOURCES) $(KERNEL_PARTS)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python >= 3.11 is needed; $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=... setup")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (the first time takes a minute or two)"
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $(VENV)/build-requires.txt
	@$(BIN)/python -m pip install -q -r $(VENV)/build-requires.txt numpy
	@BALACOON_TK_BUILD=release $(BIN)/python -m pip install -q --no-build-isolation -e '.[dev]'
	@touch $@

demo: $(STAMP) ## Speak a paragraph whole and streamed, compare both in numbers and in a picture
	@mkdir -p out/demo
	@$(BIN)/balacoon-tk compare -f docs/demo.txt --rounds 5 \
	    --wav-dir out/demo --plot out/demo/compare.png --json -o out/demo/report.json
	@echo; echo "Listen and look:"; ls out/demo/*.wav out/demo/report.json out/demo/compare.png

picture: demo browser-test ## Draw the README's pictures anew; that of the playground where there is a browser
	@mkdir -p docs/images
	cp out/demo/compare.png docs/images/compare.png
	@test ! -f out/browser/playground.png || cp out/browser/playground.png docs/images/playground.png

# Nothing is fetched: figures are drawn here, and the site has all that its pages load.
DOCS := build/docs

docs: $(STAMP) ## Build the site into build/site, figures and reference included; open build/site/index.html
	$(BIN)/python docs/site/draw_figures.py --out $(DOCS)/figures
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-look: docs ## Look at the site in a browser, wide and narrow; screenshots are kept in out/docs
	$(BIN)/pytest -q -m browser tests/test_docs_browser.py

docs-code: $(STAMP) ## Run all code on the site's pages, also what takes minutes
	DOCS_CODE=all BALACOON_TK_CACHE=$(CURDIR)/$(DOCS)/cache $(BIN)/pytest -q tests/test_readme.py tests/test_docs_code.py tests/test_writing_a_source.py

notebooks: $(STAMP) ## Run all notebooks without a page, in fast mode; what they show is kept in out/notebooks
	BALACOON_TK_FAST=1 $(BIN)/python notebooks/run.py -o out/notebooks

# On a machine that does nothing else. MODES=full takes those that have more to show, and much longer.
MODES ?= look fast

notebook-times: $(STAMP) ## Run all notebooks as they are, and write down in them how long each takes
	$(BIN)/python notebooks/run.py --record $(addprefix --mode ,$(MODES))

lab: $(STAMP) ## Open JupyterLab over the notebooks, with the toolkit installed
	$(BIN)/python -m jupyterlab notebooks

test: lint typecheck test-debug test-release ## Check style and types, then run every test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cython-lint balacoon_tk
	$(BIN)/codespell balacoon_tk export notebooks tests benchmarks docs .github Makefile setup.py *.md *.toml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows $(wildcard .github/workflows/*.yml)
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

# mypy and stubtest see the package as it is installed, with export/ inside of it: a folder of links.
typecheck: $(STAMP)
	@rm -rf build/typecheck && mkdir -p build/typecheck/balacoon_tk
	@ln -s $(CURDIR)/balacoon_tk/* $(CURDIR)/export build/typecheck/balacoon_tk/
	cd build/typecheck && ../../$(BIN)/mypy --config-file ../../pyproject.toml --cache-dir ../mypy -p balacoon_tk
	cd build/typecheck && ../../$(BIN)/stubtest --mypy-config-file ../../pyproject.toml $(KERNELS)

# The kernels once more, with every check that the release build trusts the facades for. It has a folder
# of its own, so that neither build ever stands in the other's place.
DEBUG := build/debug

$(DEBUG)/.built: setup.py $(KERNEL_SOURCES) $(KERNEL_PARTS) | $(STAMP)
	@rm -rf $(DEBUG)
	@BALACOON_TK_BUILD=debug $(BIN)/python setup.py -q build_ext --build-temp $(DEBUG)/temp --build-lib $(DEBUG)/lib
	@touch $@

test-debug: $(DEBUG)/.built
	@BALACOON_TK_BUILD=debug $(BIN)/python setup.py -q build_py --build-lib $(DEBUG)/lib
	@PYTHONPATH=$(DEBUG)/lib $(BIN)/python -P -c 'import sys, balacoon_tk.stages._random as k; \
	    "$(DEBUG)/lib" in k.__file__ or sys.exit(f"{k.__file__} is not the debug build")'
	PYTHONPATH=$(DEBUG)/lib $(BIN)/pytest -q $(KERNEL_TESTS)

# All C, what Cython made as well, under AddressSanitizer and its like for undefined behaviour, in a folder of its own.
# They have to be in the process before Python is, and Python never frees all that it holds, so leaks tell nothing.
# Its objects come from malloc, where AddressSanitizer sees them one by one. ONNX Runtime throws exceptions of C++, of
# which it knows where that library is there from the start.
SANITIZE := build/sanitize
SANITIZE_TESTS := $(sort $(wildcard $(KERNEL_TESTS) tests/test_native*.py))
ASAN_LIBRARY := $(shell $(CC) -print-file-name=libasan.so 2>/dev/null)
CXX_LIBRARY := $(shell $(CC) -print-file-name=libstdc++.so 2>/dev/null)
TSAN_LIBRARY := $(shell $(CC) -print-file-name=libtsan.so 2>/dev/null)
IN_SANITIZERS := LD_PRELOAD='$(ASAN_LIBRARY) $(CXX_LIBRARY)' ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc PYTHONPATH=$(CURDIR)/$(SANITIZE)/lib
NATIVE_C := balacoon_tk/runtime/native/src

sanitize: $(STAMP) sanitize-threads ## Test all kernels under AddressSanitizer, UBSan and ThreadSanitizer, where the compiler brings them
ifeq ($(wildcard $(ASAN_LIBRARY)),)
	@echo "$(CC) brings no libasan.so: nothing is tested"
else
	@rm -rf $(SANITIZE)/temp $(SANITIZE)/lib
	CFLAGS='-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all' \
	    BALACOON_TK_BUILD=sanitize $(BIN)/python setup.py -q build_ext --build-temp $(SANITIZE)/temp --build-lib $(SANITIZE)/lib
	@$(BIN)/python setup.py -q build_py --build-lib $(SANITIZE)/lib
	@$(IN_SANITIZERS) $(BIN)/python -P -c 'import importlib, sys; \
	    [sys.exit(f"{k.__file__} is not the build to test") for k in map(importlib.import_module, "$(KERNELS)".split()) \
	    if "$(SANITIZE)/lib" not in k.__file__]'
	$(IN_SANITIZERS) $(BIN)/pytest -q -s $(SANITIZE_TESTS)
endif

# Python and ONNX Runtime know nothing of ThreadSanitizer, so the pool and the executor are looked at as a program.
# Without contraction of products nor -O3: what counts is who reads and writes, and the program compares the bits.
sanitize-threads:
ifeq ($(wildcard $(TSAN_LIBRARY)),)
	@echo "$(CC) brings no libtsan.so: no threads are tested"
else
	@mkdir -p $(SANITIZE)
	$(CC) -O1 -g -fsanitize=thread -fno-math-errno -fno-trapping-math -I$(NATIVE_C) tests/native/share_pool.c \
	    $(wildcard $(NATIVE_C)/*.c) -lm -lpthread -o $(SANITIZE)/share_pool
	$(SANITIZE)/share_pool && BALACOON_TK_KERNELS=plain $(SANITIZE)/share_pool
endif

# Kernels for processors that aren't here: as one program, under emulation. AARCH64=package goes on with the package.
AARCH64_CC := aarch64-linux-gnu-gcc
AARCH64_RUN := $(or $(shell command -v qemu-aarch64),$(shell command -v qemu-aarch64-static),qemu-aarch64)
AARCH64 ?= kernels
PLATFORMS := PYTHONPATH=tests:benchmarks $(BIN)/python -m platforms

test-aarch64: ## Compare the kernels for aarch64 with the plain ones, where a cross compiler and qemu are
	@for each in $(AARCH64_CC) $(AARCH64_RUN); do command -v $$each >/dev/null || { echo "$$each is missing: nothing is tested"; exit 0; }; done; \
	mkdir -p build && $(AARCH64_CC) -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math -static -I$(NATIVE_C) \
	    tests/native/compare_kernels.c $(NATIVE_C)/dispatch.c $(wildcard $(NATIVE_C)/kernels_*.c) -lm -o build/compare_kernels && \
	$(AARCH64_RUN) -cpu max build/compare_kernels && $(AARCH64_RUN) -cpu cortex-a53 build/compare_kernels
ifeq ($(AARCH64),package)
	$(PLATFORMS).aarch64
endif

# Clang, for systems that aren't here, comes with the package ziglang, into an environment of its own.
CLANG := build/clang
CLANG_TARGETS := x86_64-linux-gnu aarch64-linux-gnu x86_64-macos aarch64-macos x86_64-windows-gnu

test-clang: $(STAMP) ## Compile the native engine by Clang for Linux, macOS and Windows, and run it where that is here
	@test -x $(CLANG)/bin/python || { $(BIN)/python -m venv $(CLANG) && $(CLANG)/bin/python -m pip install -q ziglang; }
	for target in $(CLANG_TARGETS); do \
	    $(CLANG)/bin/python -m ziglang cc -target $$target -O1 -ffp-contract=fast -fno-math-errno -fno-trapping-math -I$(NATIVE_C) \
	        tests/native/compare_kernels.c $(wildcard $(NATIVE_C)/*.c) -lm -o $(CLANG)/compare_kernels-$$target || exit 1; \
	done
	$(CLANG)/compare_kernels-$(shell uname -m)-linux-gnu

# ONLY='3.13 3.14' takes these Pythons alone.
ONLY ?=

chroots: $(STAMP) ## Bring Pythons that this system hasn't, from Debian's archive: as root, with mmdebstrap
	$(PLATFORMS).places

wheels: $(STAMP) ## Build a wheel for each Python that can be had here, and say on which Linux it runs
	$(PLATFORMS).wheels build $(addprefix --only ,$(ONLY))

test-wheels: $(STAMP) ## Try each wheel in an environment without the source tree, with the default voice
	$(PLATFORMS).wheels test $(addprefix --only ,$(ONLY))

test-minimum: $(STAMP) ## Run a part of the suite with the oldest NumPy, ONNX Runtime and onnx that are allowed
	$(PLATFORMS).minimum

# A Python without the GIL, as Debian's source of python3.13 makes it with `./configure --disable-gil`.
FREE_PYTHON ?= python3.13t
WITHOUT_GIL := build/without_gil

test-without-gil: $(STAMP) ## Stream from many threads at once in a Python without the GIL, FREE_PYTHON=python3.13t
	@rm -rf $(WITHOUT_GIL) && $(FREE_PYTHON) -m venv $(WITHOUT_GIL) && $(WITHOUT_GIL)/bin/python -m pip install -q --prefer-binary .
	$(WITHOUT_GIL)/bin/python -P tests/platforms/without_gil.py \
	    $$($(BIN)/python -c 'from balacoon_tk.voice.default import default_voice_folder; print(default_voice_folder())')

# Files of tests are divided between two processes, in the order in which they are named: by the number of their tests
# a few long ones would come last. Speed isn't tested, so nothing minds the other one.
IN_TWO := -n 2 --dist loadfile --no-loadscope-reorder --benchmark-disable
test-release: $(STAMP)
	$(BIN)/pytest $(IN_TWO)

# Kernels with line tracing, and C that counts its lines, beside links to the Python files: these are measured where
# they are. COVERED=tests/test_tts.py runs a part of the suite, and adds it to what was measured before.
COVERAGE := build/coverage
COVERED ?=

$(COVERAGE)/.built: setup.py $(KERNEL_SOURCES) $(KERNEL_PARTS) | $(STAMP)
	@rm -rf $(COVERAGE) && mkdir -p $(COVERAGE)/lib
	CFLAGS='--coverage -fprofile-update=atomic' LDFLAGS=--coverage BALACOON_TK_BUILD=coverage \
	    $(BIN)/python setup.py -q build_ext --build-temp $(COVERAGE)/temp --build-lib $(COVERAGE)/lib
	@touch $@

coverage: $(COVERAGE)/.built ## Say which lines of Python, Cython and C the suite runs; fail where they are too few
ifeq ($(COVERED),)
	@rm -rf $(COVERAGE)/data && find $(COVERAGE)/temp -name '*.gcda' -delete
endif
	@mkdir -p $(COVERAGE)/data && find $(COVERAGE)/lib -type l -delete
	@cp -rsn $(CURDIR)/balacoon_tk $(COVERAGE)/lib/ && cp -rsn $(CURDIR)/export $(COVERAGE)/lib/balacoon_tk/
	PYTHONPATH=$(CURDIR)/$(COVERAGE)/lib PYTHONSAFEPATH=1 $(BIN)/coverage run -m pytest -q $(IN_TWO) $(COVERED)
	$(BIN)/python tests/line_coverage.py $(if $(COVERED),--out $(COVERAGE)/part.json)

# MODULE=balacoon_tk/decoder/chunking.py is one of them, or several; EVERY=5 tries a fifth of the mutants.
MODULE ?=
EVERY ?= 1
mutants: $(STAMP) ## Break modules in many small ways and see whether their tests notice: hours for all of them
	PYTHONSAFEPATH=1 PYTHONPATH=tests $(BIN)/python tests/mutants.py $(MODULE) --every $(EVERY)

# Chromium comes from the system: apt-get install chromium. Its screenshots are kept in out/browser.
browser-test: $(STAMP) ## Play in a real browser: JupyterLab in Chromium without a window
	$(BIN)/pytest -m browser tests/test_browser.py

ray-test: $(STAMP) ## Start a Ray cluster on this machine, and compare its corpora with those of processes
	$(BIN)/pytest -m ray tests/test_corpus_workers.py

# KILLS=500 for fewer; what a run has counted is kept, with its seed.
KILLS ?= 2000

kills: $(STAMP) ## Kill installs, exports and other writers at random moments: nothing corrupt, nothing left
	PYTHONPATH=tests $(BIN)/python tests/kills.py -n $(KILLS) --out benchmarks/results/kills.json

CUTS ?= 10000

cuts: $(STAMP) ## Cut texts into pieces at random: nothing that is read or said may depend on the cuts
	PYTHONPATH=tests $(BIN)/python tests/cuts.py -n $(CUTS) --out benchmarks/results/cuts.json

# Of each language; the tests have a few.
SENTENCES ?= 100

piper-ids: $(STAMP) ## Compare the ids of sentences in many languages with those of piper-tts
	PYTHONPATH=tests $(BIN)/python tests/piper_ids.py -n $(SENTENCES) --out benchmarks/results/piper_ids.json

word-boundaries: $(STAMP) ## Compare the phonemes of each word with espeak-ng's own events of words
	PYTHONPATH=tests $(BIN)/python tests/word_boundaries.py --out benchmarks/results/word_boundaries.json

# These are programs; what bench_streaming.py times under pytest, it times more thoroughly as one.
PROGRAMS := $(addprefix benchmarks/bench_,$(addsuffix .py,streaming passes decoders native live serve corpus providers \
    guards))
STAGES := $(filter-out $(PROGRAMS),$(wildcard benchmarks/bench_*.py))

# Judges without what their wheels ask for: torchaudio, which one's command line alone imports and which would change
# torch, and libsvm, which has to be compiled and is for music.
JUDGES := distillmos==0.9.1 visqol-python==3.8.0 xls-r-sqa==0.1.0

# BENCH=--resume goes on where the last one was stopped; BENCH=--only=stages,start measures parts.
bench: peers ## Time every stage, alone and beside other engines, and write the README's figures anew
	$(BIN)/pytest $(STAGES) --benchmark-only --benchmark-json=benchmarks/results/kernels.json
	$(BIN)/python benchmarks/bench_streaming.py --out benchmarks/results/streaming.json --readme README.md
	$(BIN)/python benchmarks/run.py --readme README.md --docs docs/benchmarks.md $(BENCH)

peers: $(STAMP)
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["peers"], sep="\n")' > $(VENV)/peers.txt
	@$(BIN)/python -m pip install -q -r $(VENV)/peers.txt
	@$(BIN)/python -m pip install -q --no-deps $(JUDGES)

bench-passes: $(STAMP) ## Time the default voice without each of the passes that make it faster
	$(BIN)/python benchmarks/bench_passes.py

bench-decoders: $(STAMP) ## Try decoders of today: which stream, and what that costs
	$(BIN)/python benchmarks/bench_decoders.py --docs docs/decoders.md

bench-native: peers ## Measure the native engine beside ONNX Runtime and other engines
	$(BIN)/python benchmarks/bench_native.py --docs docs/native.md

bench-live: $(STAMP) ## Measure how soon text in pieces is heard, and what a clause that is spoken alone costs
	$(BIN)/python benchmarks/bench_live.py --docs docs/live_text.md

bench-serve: $(STAMP) ## Measure the server: first bytes, 16 listeners, and 1000 clients that leave in the middle
	$(BIN)/python benchmarks/bench_serve.py

# Half an hour; BENCH_CORPUS='--only batch' measures a part.
bench-corpus: $(STAMP) ## Measure corpora: a second worker, Ray beside processes, and decoders run in batches
	$(BIN)/python benchmarks/bench_corpus.py --docs docs/corpora.md $(BENCH_CORPUS)

bench-guards: $(STAMP) ## Measure what the guards of voices and streams cost
	$(BIN)/python benchmarks/bench_guards.py

# SOAK='--minutes 2 --streams 4' sees that it works.
soak: $(STAMP) ## Let 16 listeners come and go for half an hour, and see whether anything wears out
	$(BIN)/python benchmarks/soak.py $(SOAK)

# FUZZ_RUNS are the inputs of each target that is fast, FUZZ_SEED chooses them, FUZZ_SECONDS end a target early.
# FUZZ='--add --only voice' keeps what other seeds have counted, and runs one target.
FUZZ_RUNS := 2000
FUZZ_SEED := 1
FUZZ_SECONDS := 600
FUZZ ?=

fuzz: $(STAMP) ## Feed texts, voices and graphs that nobody writes to all that reads them, and report how it ends
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["fuzz"], sep="\n")' > $(VENV)/fuzz.txt
	@$(BIN)/python -m pip install -q -r $(VENV)/fuzz.txt || echo "without atheris no input is guided by coverage"
	$(BIN)/python tests/fuzz/run_fuzz.py --runs $(FUZZ_RUNS) --seed $(FUZZ_SEED) --seconds $(FUZZ_SECONDS) \
	    --out benchmarks/results/fuzz.json $(FUZZ)

clean: ## Remove what was built; .venv stays
	rm -rf build dist out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f balacoon_tk/*/*.so balacoon_tk/*/*/*.so balacoon_tk/*/_*.c balacoon_tk/*/*/_*.c
	rm -f $(STAMP)
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
