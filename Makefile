# make demo   the whole chain on simulated nights, ends with a report
# make test   the quick tests            make test-all   the long ones too; TIME_BOX=120 begins none
#             after 120 s, in an order that every day, or SLEEPTOOLS_SEED, has of its own
# make test-slurm   trainings as jobs of a Slurm that the tests start on this machine; needs
#             Debian's slurm-wlm and munge
# make dist   wheels and the source archive, into dist/     make wheel   the same, and tries them:
#             in an environment without compiler and torch, and beside torch
# make docs   the pages as a web site, into build/site
# make lint   ruff, mypy, layers, clang-format
# make bench  the native core beside other libraries, into benches/results; a quarter of an hour
# make judge  what the simulated nights are worth, into benches/results; the better part of an hour
#             (benches/network_transfer.py, half an hour more, fine_tuning.py and
#             correction_loop.py, as long together, are run by hand; so is benches/scale.py, the
#             whole chain at 4 to 78 subjects, half an hour and 20 GB of disk)
# make fuzz   mutated files for every reader for ten minutes; every command killed, and its disk
#             full, at each of its write operations; and run twice at once, 50 times
# make emulate    every CUDA op without a GPU (docs/cuda.md)
# make plant      one fault after the other in csrc/cuda, which that must notice
# make sanitize   the native kernels, and the emulated ones, under ASan and UBSan
# make gpu    the tests marked gpu and benches/gpu.py, in under 20 minutes; again, and it goes on. Needs
#             an NVIDIA GPU, nvcc and no network: WHEELS=FOLDER has what the active python3 lacks
# make gpu-wheels      fills that folder, where there is a network
# make accessibility   report and review under axe-core, which npm brings, in headless Chromium
#
# Each target sets up what it needs in .venv. A torch that the active python3 has is used as it is;
# otherwise constraints.txt chooses one of modest size. SLEEPTOOLS_NATIVE=0 builds no native core;
# SLEEPTOOLS_CUDA=ON compiles the CUDA kernels where no GPU is found, too.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
TIME_BOX ?= 0
MARK ?= slow or not slow
CORE := CMakeLists.txt $(wildcard csrc/*.cpp csrc/*/*)
DEMO ?= demo
CLANG_FILES = $(shell find csrc tests/helpers/cuda_emulator -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
YASA := $(VENV)-bench/bin/python
ACCUSLEEPY := $(VENV)-accusleepy
TOOLS := $(VENV)-tools
GPU := $(VENV)-gpu
GPU_SITE := build/gpu-site
GPU_PYTHON ?= 3.12
GPU_TESTS = $(shell grep -rl --include='test_*.py' 'mark.gpu' tests)
WHEELS ?= build/gpu-wheels

# Python keeps what it has compiled, also where it was told not to, as in many containers: pip leaves
# that to the first import (`--no-compile` below), and torch without costs every command 4 s.
export PYTHONDONTWRITEBYTECODE :=

# Freed memory stays in the process, in huge pages: in a virtual machine whose host takes free pages
# back, the tests that train take a third of the time.
TUNABLES := glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184
PYTEST := GLIBC_TUNABLES=$(TUNABLES) $(BIN)/python -m pytest -q

# A list of pyproject.toml's table of the project, a line each.
LISTED = import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']$(1), sep='\n')

.PHONY: demo test test-all dist wheel docs lint format test-slurm bench judge fuzz emulate plant \
  sanitize gpu gpu-machine gpu-wheels accessibility clean

demo: $(INSTALLED)
	benches/demo.sh $(BIN)/sleeptools $(DEMO)

test: $(READY)
	$(PYTEST)

test-all: $(READY)
	$(PYTEST) -m "$(MARK)" --time-box $(TIME_BOX)

test-slurm: $(READY)
	$(PYTEST) -m "slow or not slow" tests/cli/test_plan.py tests/cli/test_submit.py \
	  tests/cli/test_task.py tests/cli/test_slurm_plan.py tests/cli/test_slurm.py

fuzz: $(READY)
	SLEEPTOOLS_FUZZ_SECONDS=$${SLEEPTOOLS_FUZZ_SECONDS:-600} $(PYTEST) -s -m slow tests/fuzz
	SLEEPTOOLS_RACES=$${SLEEPTOOLS_RACES:-50} $(PYTEST) -m slow --time-box $(TIME_BOX) \
	  tests/store/test_faults.py tests/store/test_two_writers.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(CLANG_FILES)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CLANG_FILES)

bench: $(READY)-bench $(YASA) $(ACCUSLEEPY)
	$(BIN)/python -m pytest benches/bench_ops.py -q -o addopts= --benchmark-max-time=0.3 \
	  --benchmark-disable-gc --benchmark-json=benches/results/ops.json
	$(BIN)/python benches/forward.py
	$(BIN)/python benches/training.py
	$(BIN)/python benches/night.py --yasa $(YASA)
	$(BIN)/python benches/mouse_night.py --accusleepy $(ACCUSLEEPY)
	$(BIN)/python benches/instructions.py
	$(BIN)/python benches/readme.py

judge: $(READY) $(YASA)
	$(BIN)/python benches/ceiling.py
	$(BIN)/python benches/learning_gap.py
	$(BIN)/python benches/selection.py
	$(BIN)/python benches/judge_mice.py
	PYTHONPATH=. $(YASA) benches/judge_yasa.py
	$(BIN)/python benches/readme.py

$(READY)-bench: $(READY)
	$(BIN)/python -m pip install -q -c $(VENV)/constraints.txt --no-build-isolation -e '.[dev,bench]'
	@touch $@

# YASA pins older versions of what the package uses, so it has an environment of its own.
$(YASA):
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/pip install -q yasa==0.8.1 polars || { rm -rf $(VENV)-bench; exit 1; }

# So does AccuSleePy, whose window and training images would bring Qt and torchvision.
$(ACCUSLEEPY):
	$(PYTHON) -m venv $@
	$@/bin/pip install -q -c constraints.txt torch numpy scipy 'pandas<3' 'pyarrow<26' 'pillow<13' \
	  platformdirs tqdm && $@/bin/pip install -q --no-deps accusleepy==0.13.0 || { rm -rf $@; exit 1; }

# A torch of the active python3 is made visible through a .pth file, which serves a plain Python, a
# virtual environment and conda alike. What builds stays there, too: a builder at another path, as
# in pip's isolation, would compile everything anew whenever pyproject.toml changes. The core is
# compiled while the libraries are unpacked; Python compiles those of their files that are imported.
$(INSTALLED): pyproject.toml constraints.txt $(CORE)
	@set -e; \
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "error: sleeptools needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V)"; exit 1; }; \
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	cp constraints.txt $(VENV)/constraints.txt; \
	if found=$$($(PYTHON) -c "import torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])" 2>/dev/null); then \
	  echo "using the torch of $$(command -v $(PYTHON))"; \
	  echo "$$found" > $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/torch-of-active-python.pth; \
	  : > $(VENV)/constraints.txt; \
	fi; \
	install="$(BIN)/python -m pip install -q --no-compile -c $(VENV)/constraints.txt"; \
	$$install 'scikit-build-core>=0.10' 'pybind11>=2.13'; \
	needed=$$($(BIN)/python -c "from scikit_build_core import build; print(*build.get_requires_for_build_editable())"); \
	test -z "$$needed" || $$install $$needed; \
	$(BIN)/python -c "$(call LISTED,['dependencies'])" >$(VENV)/requirements.txt; \
	$$install -r $(VENV)/requirements.txt & libraries=$$!; \
	$$install --no-build-isolation --no-deps -e . || { wait; exit 1; }; \
	wait $$libraries
	@touch $@

# What the tests and linters need, without building the package again.
$(READY): $(INSTALLED)
	$(BIN)/python -c "$(call LISTED,['optional-dependencies']['dev'])" >$(VENV)/requirements-dev.txt
	$(BIN)/python -m pip install -q -c $(VENV)/constraints.txt -r $(VENV)/requirements-dev.txt
	@touch $@

# With CUDA kernels where a CUDA compiler is, for GPUs elsewhere; SLEEPTOOLS_CUDA=OFF leaves them out.
WHEEL_CUDA = $(or $(SLEEPTOOLS_CUDA),$(if $(shell command -v nvcc),ON,OFF))

# auditwheel names the oldest glibc that will do; libgomp lies beside the core under its own name.
dist: $(READY) $(TOOLS)/.ready
	rm -rf build/dist && mkdir -p build/dist dist
	rm -f dist/sleeptools-*
	SLEEPTOOLS_CUDA=$(WHEEL_CUDA) SLEEPTOOLS_BUNDLE_OPENMP=ON $(BIN)/python -m pip wheel . -q --no-build-isolation --no-deps -w build/dist
	PATH=$(abspath $(TOOLS))/bin:$$PATH $(TOOLS)/bin/auditwheel repair --exclude libgomp.so.1 \
	  -w dist build/dist/sleeptools-*.whl 2>build/dist/auditwheel.log
	SLEEPTOOLS_NATIVE=0 $(BIN)/python -m pip wheel . -q --no-build-isolation --no-deps -w dist
	$(TOOLS)/bin/python -m build -s --no-isolation --outdir dist . >build/dist/sdist.log
	$(TOOLS)/bin/twine check --strict dist/sleeptools-*

wheel: dist
	SLEEPTOOLS_DIST=$(CURDIR)/dist $(PYTEST) -m slow tests/project/test_wheel.py

docs: $(TOOLS)/.ready
	$(TOOLS)/bin/python docs/build_site.py

$(TOOLS)/.ready: packaging/requirements-tools.txt
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install -q -r $<
	@touch $@

emulate: $(READY)
	PYTHONPATH=tests/helpers $(BIN)/python -m cuda_emulator.sweep

plant: $(READY)
	PYTHONPATH=tests/helpers $(BIN)/python -m cuda_emulator.faults

sanitize: $(READY)
	SLEEPTOOLS_SANITIZE=ON SLEEPTOOLS_CUDA=OFF $(BIN)/python -m pip install . -q --no-build-isolation \
	  --no-deps -Cbuild-dir=build/sanitize --upgrade --target build/sanitize-site
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=build/sanitize-site:$$site \
	  $(BIN)/python -S -P -m pytest -q -p no:cacheprovider tests/native tests/recording/test_filters.py \
	  --ignore tests/native/test_cuda_emulator.py
	PYTHONPATH=tests/helpers $(BIN)/python -m cuda_emulator.sweep --checked=sanitize

# Both run, whatever the first one says.
gpu: gpu-machine $(GPU)/.ready
	export PYTHONPATH=$(GPU_SITE) SLEEPTOOLS_REQUIRE_GPU=1; \
	$(GPU)/bin/python -P -m pytest -q -p no:cacheprovider -m gpu $(GPU_TESTS); tests=$$?; \
	$(GPU)/bin/python benches/gpu.py; rows=$$?; \
	test $$tests = 0 && exit $$rows; \
	echo "error: make gpu: tests marked gpu failed, see above"; exit $$tests

gpu-machine:
	@$(PYTHON) benches/instruments/gpu_machine.py

# Nothing is fetched: pip takes what the active python3 does not have from WHEELS.
$(GPU)/.ready: packaging/requirements-gpu.txt pyproject.toml $(CORE) $(shell find sleeptools cli -name '*.py')
	test -x $(GPU)/bin/python || $(PYTHON) -m venv $(GPU)
	$(PYTHON) -c "import torch, pathlib; print(pathlib.Path(torch.__file__).parents[1])" \
	  > $$($(GPU)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/torch-of-active-python.pth
	mkdir -p $(WHEELS)
	$(if $(shell command -v cmake),grep -v '^cmake',cat) packaging/requirements-gpu.txt >$(GPU)/requirements.txt
	$(GPU)/bin/python -m pip install -q --no-index --find-links $(WHEELS) -r $(GPU)/requirements.txt || \
	  { echo "error: make gpu: the active $(PYTHON) and WHEELS=$(WHEELS) lack a library; 'make gpu-wheels' fetches them all where there is a network"; exit 1; }
	PATH=$(abspath $(GPU))/bin:$$PATH SLEEPTOOLS_CUDA=$(or $(SLEEPTOOLS_CUDA),ON) $(GPU)/bin/python -m pip install . -q --no-index \
	  --no-build-isolation --no-deps -Cbuild-dir=build/gpu --upgrade --target $(GPU_SITE)
	@touch $@

# For Python GPU_PYTHON on x86-64; without numpy, which is torch's, and what GPU_HAS says is there.
gpu-wheels:
	mkdir -p $(WHEELS)
	$(PYTHON) -m pip download -q --only-binary=:all: --python-version $(GPU_PYTHON) --implementation cp \
	  $(foreach tag,manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014,--platform $(tag)_x86_64) \
	  -d $(WHEELS) -r packaging/requirements-gpu.txt
	rm -f $(foreach name,numpy $(GPU_HAS),$(WHEELS)/$(name)-*.whl)

accessibility: $(READY)
	npm install --silent --no-save --no-fund --no-audit --prefix build/axe axe-core
	SLEEPTOOLS_AXE=build/axe/node_modules/axe-core/axe.min.js SLEEPTOOLS_REQUIRE_BROWSER=1 \
	  $(PYTEST) -m slow tests/report/test_report.py tests/commands/test_agree_page.py \
	  tests/commands/test_review_page.py -k axe

clean:
	rm -rf $(VENV) $(VENV)-bench $(ACCUSLEEPY) $(TOOLS) $(GPU) build dist demo
