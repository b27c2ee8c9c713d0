# make detect   a virtual environment with the base install, then detection on a demonstration recording
# make test     a virtual environment with all that tests need, checks and the fast tests
# make test-all the same with the slow tests
# make train    a new signal from five recordings, in a store of its own: the day that the README tells
PYTHON ?= python3
PIP_INSTALL = -m pip install --progress-bar on --disable-pip-version-check
G20 = ../../.venv-dev/bin/g20
DEMO = out/demo.sigmf-meta

.PHONY: detect test test-all train clean

detect: .venv/ready
	mkdir -p out
	.venv/bin/python scripts/make_demo.py out
	.venv/bin/g20 detect $(DEMO) --match --plot out/demo.png

test: .venv-dev/ready
	scripts/check
	.venv-dev/bin/python -m pytest -m "not slow"

test-all: .venv-dev/ready
	scripts/check
	.venv-dev/bin/python -m pytest

train: .venv-dev/ready
	rm -rf out/day && mkdir -p out/day && cp -r models out/day/models
	.venv-dev/bin/python scripts/make_new_signal.py out/day/rec
	cd out/day && $(G20) samples add sweeps rec/sweeps_[1-5].sigmf-meta && $(G20) train sweeps && \
	$(G20) versions sweeps && $(G20) detect rec/sweeps_6.sigmf-meta --signals sweeps --match

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP_INSTALL) --editable '.[plot]'
	touch $@

.venv-dev/ready: pyproject.toml
	$(PYTHON) -m venv .venv-dev
	.venv-dev/bin/python $(PIP_INSTALL) --editable '.[train,dev]'
	touch $@

clean:
	rm -rf .venv .venv-dev out
