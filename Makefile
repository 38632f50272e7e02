# make demo   segment, reconstruct and measure a synthetic breast exam; report in output/demo/report.html
# make test   lint, types and all tests
# Both set themselves up in .venv on the first call.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(if $(shell $(name) -c "" 2>/dev/null && echo yes),$(name))))
BIN := .venv/bin
export QT_QPA_PLATFORM := offscreen
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1

.PHONY: demo test lint clean

demo:
	$(BIN)/python -m BreastBiomarkersLib demo --output output/demo $(ARGUMENTS)

test: lint
	$(BIN)/python -m pytest

lint:
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf .venv output

# The environment, and what a machine without a desktop lacks; make reads the file again once it is made.
ifneq ($(MAKECMDGOALS),clean)
include .venv/setup.mk
endif

.venv/setup.mk: pyproject.toml constraints.txt Testing/host/fetch_qt_libraries.sh
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
	  || { echo "Python 3.11 or 3.12 is needed; name one with: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Install the venv module first: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[host,mesh,report,cohort,statistics,fast,learning,dicom,snirf,test]"
	@if $(BIN)/python -c 'import PySide6.QtWidgets' 2>/dev/null; then : > $@.new; \
	  else Testing/host/fetch_qt_libraries.sh .venv/qt-libraries > $@.new; fi
	@mv $@.new $@
