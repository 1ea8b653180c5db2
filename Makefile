# make setup | demo | test | test-slow | test-sim | fuzz | lint | docs | dist | clean. Needs Python and the package registry, nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.spikescr-ready
INSTALL := -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
PIP := $(BIN)/python $(INSTALL)
# Lava is archived: 0.10.0 is its last release and declares Python < 3.11 and NumPy < 2, which pip takes at its word. It
# runs on newer ones through spikescr.sim.lava.compat. Its real needs are the extra `lava`, those of lava-dl, which reads
# what `spikescr export --to netx` writes, the extra `netx`. NeuroBench asks for torchaudio, Norse for torchvision and
# syops for any SpikingJelly; the tests that run them need none. They go last, into an environment made anew: pip holds
# every later installation against what they declare.
UNRESOLVED := --no-deps --ignore-requires-python --no-warn-conflicts
LAVA := lava-nc==0.10.0
OTHERS := lava-dl==0.6.0 neurobench==2.3.0 norse==1.1.0 syops==0.0.5
EXTRAS := cluster,digits,dist,docs,download,lint,microphone,netx,plots,tensorboard,test,train
PYTEST := -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: setup demo test test-slow test-sim fuzz lint docs dist clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[$(EXTRAS)]'
	$(PIP) $(UNRESOLVED) $(LAVA) $(OTHERS)
	touch $@

demo: setup
	$(BIN)/spikescr train --run runs/demo
	$(BIN)/spikescr export --to nir --run runs/demo
	$(BIN)/spikescr simulate --steps 40 --backend lava --run runs/demo
	$(BIN)/spikescr verify --run runs/demo
	$(BIN)/spikescr energy runs/demo
	$(BIN)/spikescr report runs/demo

test: setup
	$(BIN)/python $(PYTEST) -m 'not slow'

# What kills and resumes trainings, types the pages' commands, or runs Lava's own tests.
test-slow: setup
	$(BIN)/python $(PYTEST) -m slow

# The simulator's tests without torch, in an environment of their own: make test-sim PYTHON=python3.13. Another NumPy than
# that of constraints.txt: make test-sim PYTHON=python3.11 NUMPY='numpy>=2'
SIM_VENV = $(VENV)-sim-$(notdir $(PYTHON))
NUMPY ?=
SIM_TESTS ?= tests/sim
test-sim:
	$(PYTHON) -m venv --clear $(SIM_VENV)
	$(SIM_VENV)/bin/python $(INSTALL) --editable '.[test-sim]'
	$(SIM_VENV)/bin/python $(INSTALL) $(UNRESOLVED) $(LAVA)
	$(if $(NUMPY),$(SIM_VENV)/bin/python -m pip --disable-pip-version-check install --quiet '$(NUMPY)')
	$(SIM_VENV)/bin/python $(PYTEST) $(SIM_TESTS)

MINUTES ?= 2
fuzz: setup
	PYTHONPATH=tests $(BIN)/python -m fuzz --minutes $(MINUTES)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	./.ci/types

docs: setup
	$(BIN)/python -m sphinx --fail-on-warning --keep-going -q -b html docs build/docs

# A wheel from a source distribution, so that both are complete, and a session from the wheel alone.
dist: setup
	rm -rf build/dist
	$(BIN)/python -m build --outdir build/dist
	$(BIN)/python .ci/smoke.py build/dist

clean:
	rm -rf $(VENV) $(VENV)-sim-* build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
