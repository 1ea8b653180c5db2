# make setup | demo | test | fuzz | lint | clean. Needs Python 3.11 and the package registries, nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.spikescr-ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Lava is archived: 0.10.0 is its last release and declares Python < 3.11, which pip takes at its word. It runs on
# 3.11 through spikescr.sim.lava.compat. Its real needs are ordinary dependencies of ours. SpikingJelly asks for
# torchvision, torchaudio and a plotting stack that its neurons and layers never import.
# NeuroBench asks for torchaudio, Norse for torchvision and syops for any SpikingJelly; the tests that run them need none.
# lava-dl, which reads what `spikescr export --to netx` writes, needs the same two flags (spikescr.sim.lava.netx).
# They go last, into an environment made anew: pip holds every later installation against what they declare.
UNRESOLVED := lava-nc==0.10.0 lava-dl==0.6.0 neurobench==2.3.0 norse==1.1.0 syops==0.0.5

.PHONY: setup demo test fuzz lint clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[digits,cluster,netx,tensorboard,test,bench,lint]'
	$(PIP) install --quiet --constraint constraints.txt --no-deps --ignore-requires-python $(UNRESOLVED)
	touch $@

demo: setup
	$(BIN)/spikescr train --run runs/demo
	$(BIN)/spikescr export --to nir --run runs/demo
	$(BIN)/spikescr simulate --steps 40 --backend lava --run runs/demo
	$(BIN)/spikescr verify --run runs/demo
	$(BIN)/spikescr energy runs/demo
	$(BIN)/spikescr report runs/demo

test: setup
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

MINUTES ?= 2
fuzz: setup
	PYTHONPATH=tests $(BIN)/python -m fuzz --minutes $(MINUTES)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	./.ci/types

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
