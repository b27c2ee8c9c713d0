# make detect   a virtual environment with the base install, then detection on a demonstration recording
# make test     a virtual environment with all that tests need, checks and tests
PYTHON ?= python3
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
DEMO = out/demo.sigmf-meta

.PHONY: detect test check clean

detect: .venv/ready
	mkdir -p out
	.venv/bin/python scripts/make_demo.py out
	.venv/bin/g20 detect $(DEMO) --match --plot out/demo.png

test: .venv-dev/ready
	scripts/check
	.venv-dev/bin/python -m pytest

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP_INSTALL) --editable .
	touch $@

.venv-dev/ready: pyproject.toml
	$(PYTHON) -m venv .venv-dev
	.venv-dev/bin/python $(PIP_INSTALL) --editable '.[train,dev]'
	touch $@

clean:
	rm -rf .venv .venv-dev out
