# `make demo` and `make test` are all that a newcomer needs: each sets up whatever is missing.
PYTHON ?= python3
VENV ?= .venv
# the version that the project is tested with
TORCH = 2.13.0
TORCH_NPU = 2.13.0
RUN = $(VENV)/bin/python
SOURCES = setup.py CMakeLists.txt pyproject.toml $(shell find csrc ascend_kernels -type f)

.PHONY: demo test test-full bench lint clean

demo: $(VENV)/built
	$(RUN) -m pangu_ops.demo

test: $(VENV)/built $(VENV)/torch_npu-$(TORCH_NPU)
	$(RUN) -m pytest

test-full: $(VENV)/built $(VENV)/torch_npu-$(TORCH_NPU)
	$(RUN) -m pytest -m ""

bench: $(VENV)/built
	$(RUN) -m pytest -s bench

lint: $(VENV)/built
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:
	rm -rf build dist *.egg-info pangu_ops/lib $(VENV)

$(VENV)/built: $(VENV)/torch $(SOURCES)
	$(RUN) -m pip install -e ".[test]"
	touch $@

# torch comes by itself and first: beside packages that depend on it, pip may choose another build of it.
$(VENV)/torch: | $(RUN)
	$(RUN) -c "import torch" 2>/dev/null || $(RUN) -m pip install torch==$(TORCH)
	touch $@

# Of torch_npu only what tests compile and compare with: without a network they are skipped.
$(VENV)/torch_npu-$(TORCH_NPU): | $(VENV)/built
	-$(RUN) tests/mock_npu/fetch.py $(TORCH_NPU) $@

# A torch that this Python has already (a container's, built for its GPU) is used.
$(RUN):
	$(PYTHON) -m venv $$($(PYTHON) -c "import torch" 2>/dev/null && echo --system-site-packages) $(VENV) || \
	  { rm -rf $(VENV); exit 1; }  # half an environment would look like a whole one
