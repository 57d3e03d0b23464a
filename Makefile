PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH_VENV := build/bench-venv
FUZZ_VENV := build/fuzz-venv
CLIENTS_VENV := build/clients-venv
PROTO_VENV := build/proto-venv
OLDER_PROTOC = $(shell $(PYTHON) -c 'import sys; print("$(PROTO_VENV)/.done" * (sys.version_info < (3, 13)))')
ROOT ?= build/models
DEVICE ?= gpu
PIN = uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet \
    --no-emit-package seqserve-client

.PHONY: setup serve demo test bench fuzz chaos lint proto lock compose-test gpu-smoke overview-picture

setup: $(VENV)/.done  ## make .venv with everything pinned in requirements/dev.txt

$(VENV)/.done: requirements/dev.txt pyproject.toml client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	    { echo "seqserve needs Python 3.11 to 3.13; choose one by: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable ./client --editable .
	touch $@

# the peers of `make bench`, kept apart: the project depends on none of them
$(BENCH_VENV)/.done: requirements/bench.txt
	$(PYTHON) -m venv --clear $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --require-hashes -r requirements/bench.txt
	touch $@

demo: setup  ## train the two demo models, where they are missing
	$(BIN)/seqserve demo --out $(ROOT)

serve: demo  ## serve them: REST on 8000, gRPC on 9000
	$(BIN)/seqserve serve --root $(ROOT)

# As many test processes as cores; a module's tests stay in one, for they share fixtures. FAST=1: without lint and
# without the tests that train or export a model or start a program. What comes first runs two at a time: each
# keeps one core busy.
test:  ## lint, types, import rules, then every test; FAST=1: the quick tests alone
	$(MAKE) --jobs 2 setup $(if $(FAST),,$(CLIENTS_VENV)/.done $(OLDER_PROTOC) lint)
	$(BIN)/pytest --numprocesses $$(nproc) --dist loadscope --no-loadscope-reorder --durations 10 \
	    $(if $(FAST),-m "not slow")

# QUICK=1: the short run, some minutes. BENCH="--only a,b --report docs": options; BENCH=--help lists them.
bench: setup $(if $(QUICK),,$(BENCH_VENV)/.done)  ## how fast the service is, beside what the model allows and beside others
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick) $(BENCH)

# schemathesis, kept apart likewise
$(FUZZ_VENV)/.done: requirements/fuzz.txt
	$(PYTHON) -m venv --clear $(FUZZ_VENV)
	$(FUZZ_VENV)/bin/pip install --quiet --require-hashes -r requirements/fuzz.txt
	touch $@

# other protocols' clients, by which the tests call the service, likewise; compiled as far as they are imported
$(CLIENTS_VENV)/.done: requirements/clients.txt
	$(PYTHON) -m venv --clear $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/pip install --quiet --no-compile --require-hashes -r requirements/clients.txt
	touch $@

# FUZZ="--in-process 100000 --seed 7": options; FUZZ=--help lists them.
fuzz: setup $(FUZZ_VENV)/.done  ## hostile inputs at both doors, 1.1 million of them
	$(BIN)/python -m tests.fuzz --schemathesis $(FUZZ_VENV)/bin/schemathesis $(FUZZ)

# SHORT=1: 10 SIGTERMs in place of 100. SOAK=600: seconds of mixed load with faults instead. CHAOS="--only clock --seed 7":
# options; CHAOS=--help lists them.
chaos: setup  ## stop, kill, starve and disturb a gateway under load, and see what its callers are told
	$(BIN)/python -m tests.chaos $(if $(SHORT),--short) $(if $(SOAK),--soak $(SOAK)) $(CHAOS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# an older protoc than ours, for the public messages: callers may have any protobuf from 4.25 (no wheels past 3.12)
$(PROTO_VENV)/.done: requirements/proto.txt
	$(PYTHON) -m venv --clear $(PROTO_VENV)
	$(PROTO_VENV)/bin/pip install --quiet --only-binary :all: --require-hashes -r requirements/proto.txt
	touch $@

proto: setup $(PROTO_VENV)/.done  ## generate the message code and stubs beside the .proto files
	$(PROTO_VENV)/bin/python -m grpc_tools.protoc -I proto \
	    -I "$$($(PROTO_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
	    --python_out=proto --pyi_out=proto --grpc_python_out=proto proto/seqserve/v1/*.proto
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=proto --pyi_out=proto \
	    proto/seqserve/tfserving/*.proto proto/seqserve/openinference/*.proto

lock:  ## pin every dependency with its hashes, for Python 3.11 to 3.13 (needs uv)
	$(PIN) --all-extras -o requirements/dev.txt pyproject.toml
	$(PIN) --constraint requirements/dev.txt --extra redis -o requirements/gateway.txt pyproject.toml
	$(PIN) --constraint requirements/dev.txt --extra models -o requirements/models.txt pyproject.toml
	grep -E '^(keras|numpy|sentencepiece|tensorflow)==' requirements/dev.txt | tr -d '\\' | \
	    $(PIN) -o requirements/bench.txt requirements/bench.in -
	$(PIN) -o requirements/fuzz.txt requirements/fuzz.in
	$(PIN) -o requirements/clients.txt requirements/clients.in
	$(PIN) -o requirements/proto.txt requirements/proto.in

compose-test: setup  ## build the images and run docker-compose.yml on a Docker engine, from start to end
	$(BIN)/python deploy/compose_test.py

# DEVICE=cpu: by the tolerance for CPUs. With SEQSERVE_TEST_TFSERVING_ROOT=DIR, the root that the server was started
# on as `python -m tests.conformance DIR` prints, the conformance suite runs too.
gpu-smoke: setup  ## golden examples at a running TensorFlow Serving: needs ADDRESS=HOST:8500 MODELS=en-de,shop
	@test -n "$(ADDRESS)" -a -n "$(MODELS)" || { \
	    echo "make gpu-smoke needs ADDRESS=HOST:PORT of a running TensorFlow Serving (its gRPC port) and" >&2; \
	    echo "MODELS=NAME,NAME, exported by this project and served there; docs/deploy.md" >&2; exit 2; }
	SEQSERVE_TEST_TFSERVING=$(ADDRESS) SEQSERVE_TEST_MODELS=$(MODELS) SEQSERVE_TEST_DEVICE=$(DEVICE) \
	    $(BIN)/pytest tests/conformance$(if $(SEQSERVE_TEST_TFSERVING_ROOT),,/test_goldens.py)

overview-picture: demo  ## draw docs/overview.png anew (needs prometheus, Debian's package)
	$(BIN)/python -m deploy.overview_picture --root $(ROOT)
