# `make` lists the targets. What they do lives in Python: deploy/, export/, benchmarks/.
PYTHON ?= python3
PRESET ?= demo
VENV ?= .venv
GRPC_PORT ?= 8001
HTTP_PORT ?= 8000
METRICS_PORT ?= 8002
GATEWAY_PORT ?= 8080
READY_PORT ?= 8003
TRACE_URL ?=
PORTRAIT ?= examples/portrait.png
SPEECH ?= examples/speech.flac
OUT ?= out/demo.mp4
REPOSITORY ?= build/model_repository
ARTIFACTS ?= $(if $(wildcard artifacts/$(PRESET)),artifacts,build/artifacts)/$(PRESET)
HOURS ?= 6
BACKEND ?= cpu
GPUS ?=
STEPS ?=
THREADS ?=
LIVE ?=
POSE ?=
SPARE ?=
ACTORS ?= 1
SESSIONS ?= 1
ENGINES ?= build/engines/$(PRESET)
GPU_MEMORY_GB ?= 80
PRECISION ?= bf16
DTYPE ?= fp32

# Said by nobody: exports go past the committed artifacts/, the gateway's server has a repository that no other command
# assembles anew while it runs, and the release is of the large sizes.
EXPORTED := $(if $(filter file,$(origin ARTIFACTS)),build/artifacts/$(value PRESET),$(value ARTIFACTS))
TALKS_FROM := $(if $(filter file,$(origin REPOSITORY)),build/live/$(value PRESET),$(value REPOSITORY))
RELEASED := $(if $(filter file,$(origin PRESET)),14b,$(value PRESET))

# A setting that was given is text, in which make has no say: $ is a dollar and ~/ the home folder.
# Recipes take it from the environment, as "$$OUT", so that a space or a quote in it stays in it.
SETTINGS := PYTHON PRESET VENV GRPC_PORT HTTP_PORT METRICS_PORT READY_PORT TRACE_URL GATEWAY_PORT PORTRAIT SPEECH OUT REPOSITORY \
	ARTIFACTS HOURS BACKEND ACTORS GPUS STEPS THREADS SESSIONS ENGINES GPU_MEMORY_GB PRECISION WEIGHTS CKPT LORA LAYERS \
	DTYPE EXPORTED RELEASED AGAINST TLS_CERT TLS_KEY TLS_CA GRPC_ADDRESS
text = $(subst @@@,,$(subst @@@~/,$(HOME)/,@@@$(value $(1))))
setting = $(if $(filter file,$(origin $(1))),$($(1)),$(call text,$(1)))
$(foreach name,$(SETTINGS),$(eval override $(name) := $$(call setting,$(name))))
export $(SETTINGS)

ASSEMBLE_cpu = export.repository.assemble --steps "$$STEPS" $(if $(THREADS),--threads "$$THREADS") $(if $(LIVE),--live) \
	$(if $(POSE),--pose) $(if $(SPARE),--spare) --artifacts $$ARTIFACTS
FOLDED := $(if $(GPUS),--gpus "$$GPUS") $(if $(POSE),--pose)
ASSEMBLE_gpu = $(if $(SPARE),$(error SPARE= is for BACKEND=cpu))$(if $(STEPS),$(error STEPS= is for BACKEND=cpu; fold plans with GPUS=5|4|3|2|1))export.repository.deployment \
	$(FOLDED) --sessions "$$SESSIONS" --engines "$$ENGINES" --artifacts "$$ARTIFACTS"

# From a released folder where CKPT names one, else graphs that are there.
VERIFY := $(if $(CKPT),export.checks.release "$$CKPT" --preset "$$RELEASED" --out build/verify,export.checks.verify \
	--preset "$$PRESET" --artifacts "$$ARTIFACTS") $(if $(LORA),--lora "$$LORA") \
	$(if $(LAYERS),--layers "$$LAYERS")

wanted = $(if $($(1)),,$(error say $(1)=, $(2)))
RUN := "$$VENV"/bin/python3
SERVER := $(RUN) -m deploy.server

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help python settings setup setup-dev fetch repository serve stop drain status demo gateway test test-quick test-slow \
	test-browser lint format \
	prepare export engines compiler compile-check gpu-plan doctor verify parity-ladder train-demo \
	bench load-test clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*  ## /\1\t/' | expand -t 16

python:
	@command -v "$$PYTHON" > /dev/null || \
		{ echo "error: there is no program $$PYTHON: name a Python 3.12 or 3.11 that is there, PYTHON=python3" >&2; exit 1; }

settings: python
	@"$$PYTHON" deploy/check_python.py
	@"$$PYTHON" -m deploy.settings

setup: settings  ## make .venv with what the server, the client and the demo need
	@"$$PYTHON" -m deploy.setup_venv run --venv "$$VENV"

setup-dev: settings  ## make .venv with tests, linters, torch and ONNX export too
	@"$$PYTHON" -m deploy.setup_venv dev --venv "$$VENV"

fetch: setup  ## download the Triton server into build/ (55 MB, once)
	@$(SERVER) fetch

repository: setup  ## assemble build/model_repository; LIVE=1: for live talks; POSE=1: with pose videos; SPARE=1: with a spare stage; STEPS="0,1 2,3" THREADS=1 share the cores out otherwise; BACKEND=gpu GPUS=5|4|3|2|1 SESSIONS=1: from plans
	@$(SERVER) serves --repository "$$REPOSITORY" $(if $(POSE),--pose); code=$$?; \
		[ $$code -eq 3 ] || exit $$code; $(RUN) -m $(ASSEMBLE_$(BACKEND)) --out "$$REPOSITORY"

serve: none fetch repository  ## start the server in the background; returns when it is ready; TLS_CERT= TLS_KEY= TLS_CA= GRPC_ADDRESS=0.0.0.0: for others; TRACE_URL=http://HOST:4318/v1/traces: traces
	@$(SERVER) start --repository "$$REPOSITORY"

.PHONY: none
none: python
	@"$$PYTHON" -m deploy.server check-none

stop: python  ## end the server of make serve
	@"$$PYTHON" -m deploy.server stop

drain: python  ## end the server of make serve when its sessions have ended: LIMIT_S=600
	@"$$PYTHON" -m deploy.server drain --limit-s "$${LIMIT_S:-600}"

status: python  ## say whether the server of make serve is ready
	@"$$PYTHON" -m deploy.server status

demo: fetch repository  ## make out/demo.mp4: a portrait that speaks
	@$(RUN) -m deploy.demo --repository "$$REPOSITORY" --image "$$PORTRAIT" --audio "$$SPEECH" --out "$$OUT"

gateway: LIVE = $(if $(STEPS),,1)
gateway: override REPOSITORY = $(TALKS_FROM)
gateway: setup-gateway fetch repository  ## talk with the avatar in a browser: a page at port GATEWAY_PORT=8080; Ctrl-C ends it
	@$(RUN) -m deploy.gateway --repository "$$REPOSITORY" --port "$$GATEWAY_PORT"

.PHONY: setup-gateway setup-browser
setup-gateway: settings
	@"$$PYTHON" -m deploy.setup_venv gateway --venv "$$VENV"

test: lint fetch repository compiler  ## lint, run the tests but the slow ones, compile the graphs
	@$(RUN) -m pytest -m "not slow and not gpu" -n 2 --dist loadfile --no-loadscope-reorder \
		--cov --cov-report=
	@echo "lines covered: $$($(RUN) -m coverage report --format=total) %"
	@$(RUN) -m export.checks.compile

test-quick: setup-dev  ## run pure logic and fakes alone: no torch, no server, under a minute
	@$(RUN) -m pytest --quick -q -n 2

test-slow: setup-dev fetch repository compiler  ## run all tests, the slow ones too
	@$(RUN) -m tests.support.programs
	@$(RUN) -m pytest -m "not gpu"

.PHONY: sbom
sbom: settings  ## write out/sbom.json: every package of the server, as CycloneDX
	@"$$PYTHON" -m deploy.setup_venv sbom --venv build/sbom-venv
	@mkdir -p out
	@build/sbom-venv/bin/cyclonedx-py requirements --output-reproducible -o out/sbom.json requirements/run.lock
	@echo "wrote out/sbom.json"

.PHONY: test-agents
test-agents: settings fetch  ## test the faces for Pipecat and LiveKit Agents, in an environment of their own
	@"$$PYTHON" -m deploy.setup_venv agents --venv build/agents-venv
	@build/agents-venv/bin/python3 -m pytest -q tests/client/agents

.PHONY: test-faults
test-faults: setup-dev fetch  ## strike a real server with 24 faults while people talk; writes docs/faults.md; ten minutes
	@$(RUN) -m pytest -q tests/faults && $(RUN) -m tests.faults.table

.PHONY: test-monitoring
test-monitoring: setup-dev fetch  ## test alerts, rules and dashboard with Prometheus on a real server: apt-get install prometheus
	@for program in prometheus promtool; do command -v $$program > /dev/null || \
		{ echo "error: there is no program $$program: apt-get install prometheus" >&2; exit 1; }; done
	@$(RUN) -m pytest -q tests/deploy/monitoring tests/server/monitoring

.PHONY: setup-scale test-scale manifests
setup-scale: settings fetch
	@"$$PYTHON" -m deploy.setup_venv scale --venv build/scale-venv

test-scale: setup-scale  ## check the Helm chart, run its Envoy before two servers; in an environment of its own
	@build/scale-venv/bin/python3 -m pytest -q tests/deploy/scale

manifests: setup-scale  ## render deploy/kubernetes/manifests from the chart
	@build/scale-venv/bin/python3 -m tests.deploy.scale.rendering

setup-browser: settings
	@command -v chromium > /dev/null || \
		{ echo "error: there is no program chromium: apt-get install chromium" >&2; exit 1; }
	@"$$PYTHON" -m deploy.setup_venv browser --venv "$$VENV"

test-browser: setup-browser fetch  ## test the gateway's page in Chromium; screenshots in out/
	@$(RUN) -m pytest -q tests/browser

lint: setup-dev  ## check style and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: setup-dev  ## rewrite the sources in the house style
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

prepare: setup-dev  ## released files to one folder of weights: CKPT=folder [LORA=file] WEIGHTS=folder
	$(call wanted,CKPT,the released folder)$(call wanted,WEIGHTS,the folder to be written)
	@$(RUN) -m export.checkpoint.prepare "$$CKPT" $(if $(LORA),--lora "$$LORA") --preset "$$RELEASED" --out "$$WEIGHTS"

export: setup-dev  ## write graphs to build/artifacts/$PRESET: WEIGHTS=folder DTYPE=fp32|bf16|fp16|fp8 [ARTIFACTS=folder]
	$(call wanted,WEIGHTS,the folder that make prepare writes)
	$(if $(word 2,$(EXPORTED)),$(error an export is one folder: ARTIFACTS=folder))
	@$(RUN) -m export.to_onnx --preset "$$PRESET" --weights "$$WEIGHTS" --dtype "$$DTYPE" --out "$$EXPORTED"

engines: setup  ## build TensorRT plans from $ARTIFACTS on this machine's GPU, inside the image
	@$(RUN) -m export.engines.build --graphs "$$ARTIFACTS" --out "$$ENGINES"

compiler: setup-dev
	@$(RUN) -m export.engines.packages

compile-check: compiler  ## build the graphs with TensorRT-RTX, without a GPU
	@$(RUN) -m export.checks.compile

gpu-plan: setup-dev  ## memory of each GPU: PRESET=14b PRECISION=fp8 GPUS=5 GPU_MEMORY_GB=80 SESSIONS=1 ACTORS=1 POSE=1
	@$(RUN) -m export.checks.estimate --preset "$$PRESET" --actors "$$ACTORS" --precision "$$PRECISION" $(FOLDED) \
		--gpu-memory-gb "$$GPU_MEMORY_GB" --sessions "$$SESSIONS"

doctor: python  ## say what this machine has and lacks for a server, and how to fix it
	@"$$PYTHON" -m deploy.doctor --engines "$$ENGINES"

verify: setup-dev  ## the parity ladder, then an avatar's artifacts/$PRESET against PyTorch; CKPT=folder [LORA=file LAYERS=2]: from released files
	@$(RUN) -m $(VERIFY)

parity-ladder: setup-dev  ## the release's run in PyTorch, ONNX fp32 and ONNX fp16, block by block
	@$(RUN) -m tests.golden.parity_ladder

ifndef CKPT
verify: parity-ladder
endif

train-demo: setup-dev  ## train the demo avatar from nothing in build/train: HOURS=6, needs espeak-ng
	@$(RUN) -m train.everything --out build/train --hours "$$HOURS"

bench: setup-dev fetch repository  ## measure everything: benchmarks/results/DATE-COMMIT.json and .html; QUICK=1: small; AGAINST=old.json: what moved
	@$(RUN) -m benchmarks.audit --repository "$$REPOSITORY" $(if $(QUICK),--quick) $(if $(AGAINST),--against "$$AGAINST")

load-test: fetch repository  ## measure 1, 2, 4 and 8 sessions with perf_analyzer and our client
	@$(RUN) -m benchmarks.load_test

clean: stop  ## remove what was built (build/, out/, caches), not .venv
	rm -rf build client/build out .pytest_cache .ruff_cache .mypy_cache
