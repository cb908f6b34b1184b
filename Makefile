# Needs only Python 3.11, of which constraints.txt is, and git; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-faults test-gpu coverage mutants lint docs links clean-docs package test-lowest test-highest types format clean bench-tables bench-uci bench-speed reproduce-mnist \
	reproduce-cifar reproduce-subset

$(READY): setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test,lint]"
	touch $(READY)

# Fits the handwritten digits that scikit-learn carries, prints the inclusion table, writes plots and the pruned network.
demo: $(READY)
	$(BIN)/pyro-ssbnn fit digits --out runs/demo --overwrite --epochs 600
	$(BIN)/pyro-ssbnn summary runs/demo

test: $(READY)
	$(BIN)/python -m pytest -n auto -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -n auto -m "slow and not faults"

# Kills, full disks, tampered folders, wrong options and calls, the long form; what came of each is printed at the end.
test-faults: $(READY)
	$(BIN)/python -m pytest tests/faults

# On a machine with a CUDA device, with the torch of that device in .venv; elsewhere they are skipped.
test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu tests/gpu

# Lines and branches that the default tests reach; what runs in processes of its own is not seen (docs/testing.md).
coverage: $(READY)
	$(BIN)/python -m pytest -n auto -m "not slow" --cov --cov-report=term --cov-report=json:build/coverage.json

# Changes of the mathematics that tests have to notice, an hour on one core (docs/testing.md).
MUTANTS_READY := $(VENV)/.mutants-ready
$(MUTANTS_READY): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[mutants]"
	touch $@

mutants: $(MUTANTS_READY)
	$(BIN)/python .ci/mutants.py --json benchmarks/results/mutants.json

# mypy looks at an installed copy: setup.cfg gathers four folders under the one name pyro_ssbnn.
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build
	$(BIN)/pip install --quiet --no-deps --target build/typed .
	cd build && MYPYPATH=typed ../$(BIN)/mypy --config-file ../setup.cfg -p pyro_ssbnn

# The site, docs/_build/html/index.html; its tutorials and gallery are run, some minutes. A warning is an error.
DOCS_READY := $(VENV)/.docs-ready
$(DOCS_READY): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

docs: $(DOCS_READY)
	$(BIN)/python -m sphinx -b html --fail-on-warning --keep-going docs docs/_build/html

# Links to other sites (those inside are checked by `make docs` and by the tests). Needs the network.
links: $(DOCS_READY)
	$(BIN)/python -m sphinx -b linkcheck -D nb_execution_mode=off docs docs/_build/links

clean-docs:
	rm -rf docs/_build docs/api

# What a release consists of, in dist/, and what is wrong with it.
RELEASE_READY := $(VENV)/.release-ready
$(RELEASE_READY): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[release]"
	touch $@

package: $(RELEASE_READY) types
	rm -rf build/lib dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# A program of a user, which both checkers of types read with the package as it is installed (py.typed).
types: $(RELEASE_READY)
	rm -rf build/typed
	$(BIN)/pip install --quiet --no-deps --target build/typed .
	cp tests/typing/program.py build/typed_program.py
	cd build && MYPYPATH=typed ../$(BIN)/python -m mypy --strict --config-file= --follow-imports=silent typed_program.py
	cd build && ../$(BIN)/pyright --pythonpath ../$(BIN)/python typed_program.py

# The default tests against the wheel in an environment of its own, with the lowest and the highest versions of every stated
# range. TORCH="torch==2.13.0" takes another torch than the lowest; TESTS are the tests.
TESTS ?= tests
# Old versions warn about each other, new ones about what comes.
OLD := DeprecationWarning PendingDeprecationWarning FutureWarning
test-lowest test-highest: test-%:
	rm -rf build/$*
	$(PYTHON) -m venv build/$*
	$(PYTHON) .ci/lowest.py $(if $(TORCH),torch) > build/lowest.txt
	build/$*/bin/pip install --quiet $(if $(filter lowest,$*),--constraint build/lowest.txt) $(TORCH) ".[test]"
	build/$*/bin/pip check
	build/$*/bin/pip list
	build/$*/bin/pytest -n auto -m "not slow" $(foreach kind,$(OLD),-W default::$(kind)) $(TESTS)

# Ten minutes to an hour each on two cores; DATA holds the folders mnist/ and uci/ (docs/results.md says in which format).
DATA ?= data
bench-uci: $(READY)
	$(BIN)/python benchmarks/uci.py --data $(DATA)/uci --json benchmarks/results/uci.json

# Simulated tables beside what people would use instead; an hour or two. BART takes `pip install bartz==0.13.0` in .venv.
bench-tables: $(READY)
	$(BIN)/python benchmarks/tables.py --json benchmarks/results/tables.json

bench-speed: $(READY)
	$(BIN)/python benchmarks/speed.py --data $(DATA)/mnist --json benchmarks/results/speed.json --plots docs

# The rows of the results on images, one file each; rows whose file is there are not run again. Hours in all: those of
# MNIST and of the CIFAR-10 subset on two cores, those of CIFAR-10 on a GPU (with the torch of that GPU in .venv). Where
# the other data set is there too, its images are the foreign ones.
SEEDS ?= 0 1 2
DEVICE ?= auto
rows = $(foreach row,$(1),$(foreach seed,$(SEEDS),benchmarks/results/$(row)_$(seed).json))
MNIST_ROWS := $(call rows,mlp-mnist_ss-ig mlp-mnist_ss-gl mlp-mnist_ss-ghs lenet-mnist_ss-gl lenet-mnist_ss-ghs)
CIFAR_ROWS := $(call rows,$(foreach depth,20 32,$(foreach prior,ss-gl ss-ghs ss-ig,resnet$(depth)-cifar10_$(prior))))
SUBSET_ROWS := $(foreach row,resnet20-cifar10-subset_ss-ghs resnet32-cifar10-subset_ss-gl,benchmarks/results/$(row)_0.json)
MNIST := $(DATA)/mnist
CIFAR := $(DATA)/cifar10/cifar-10-batches-bin
other = $(if $(wildcard $(1)),--other-data $(1))
reproduce-mnist: $(MNIST_ROWS)
	$(BIN)/python benchmarks/reproduce_plots.py $(MNIST_ROWS) --out docs

reproduce-cifar: $(CIFAR_ROWS)
	$(BIN)/python benchmarks/reproduce_plots.py $(CIFAR_ROWS) --out runs/cifar10

reproduce-subset: $(SUBSET_ROWS)

benchmarks/results/%.json: | $(READY)
	$(BIN)/python benchmarks/reproduce.py --task $(word 1,$(subst _, ,$*)) --prior $(word 2,$(subst _, ,$*)) \
		--seed $(word 3,$(subst _, ,$*)) --device $(DEVICE) --json $@ \
		$(if $(findstring mnist,$*),--data $(MNIST) $(call other,$(CIFAR)),--data $(CIFAR) $(call other,$(MNIST)))

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
