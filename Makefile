# Every target sets up .venv if necessary. `make PYTHON=python3.12 demo` uses another Python (3.11 or newer).
PYTHON ?= python3
MODEL ?= gpt2
CASES ?= 100000
DOCUMENTS ?= 2000
PORT ?= 8000
BIN := .venv/bin
READY := .venv/ready
# Silence the theme's announcement of its successor.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

# `mojo format` of MAX's wheels does not find its formatter, which is the package mblack.
MOJO_FORMAT = $(BIN)/mblack --quiet --line-length 120 src/max_gpt2/model/kernels bench/kernels

.PHONY: help demo huggingface serve serve-hostile serve-soak test test-all fuzz lint format verify-sizes zoo bench \
  bench-peers bench-score bench-corpus bench-trace bench-speculation bench-load bench-serve train-demo steps check hint \
  solution reset progress watch docs docs-build book book-build figures screenshots notebook lock clean

demo: $(READY)  ## compare MAX with PyTorch on the demo checkpoint and generate with both
	$(BIN)/python main.py

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1|\2/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

huggingface: $(READY)  ## the same with MODEL=gpt2, gpt2-medium, any hub id or any folder
	$(BIN)/python main.py --model $(MODEL)

serve: $(READY)  ## serve MODEL=gpt2 through OpenAI's API on 127.0.0.1, PORT=8000
	$(BIN)/max-gpt2 serve --model $(MODEL) --port $(PORT)

serve-hostile: $(READY)  ## send 2,000 hostile requests to a server of the demo checkpoint (several minutes)
	$(BIN)/python -m tests.serve.frontend.hostile --requests 2000

serve-soak: $(READY)  ## load a server for ten minutes and kill its worker five times
	$(BIN)/python -m tests.serve.frontend.soak --minutes 10 --kills 5

test: lint docs-build  ## lint, types, docs, and all tests except the slow ones
	$(BIN)/pytest -m "not slow"

test-all: test  ## the same, and then the slow tests
	$(BIN)/pytest -m slow

fuzz: $(READY)  ## load CASES=100000 damaged checkpoints with a new seed (a quarter of an hour)
	$(BIN)/python -m tests.fuzz --cases $(CASES)

lint: $(READY)  ## ruff, mblack (Mojo) and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(MOJO_FORMAT) --check
	$(BIN)/mypy

format: $(READY)  ## fix and format with ruff and mblack
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(MOJO_FORMAT)

verify-sizes: $(READY)  ## verify random checkpoints of the four sizes; write docs/sizes.md (a quarter of an hour, 10 GiB of memory)
	$(BIN)/python -m tools.verify_sizes

zoo: $(READY)  ## compare MAX with PyTorch on a checkpoint of every kind; write docs/zoo.md (a quarter of an hour)
	$(BIN)/python -m tools.zoo

bench: $(READY)  ## benchmark max-gpt2 and transformers; update docs/performance.md (a quarter of an hour)
	$(BIN)/python -m bench.speed

bench-peers: $(READY)  ## the same with CTranslate2, OpenVINO, ONNX Runtime and llama.cpp, installed into .peers (an hour, 15 GB)
	$(BIN)/python -m bench.speed --peers .peers

bench-score: $(READY)  ## benchmark scoring, also with minicons and llama.cpp, installed into .peers (half an hour, 6 GB)
	$(BIN)/python -m bench.score --peers .peers

bench-corpus: $(READY)  ## benchmark corpus mode; write docs/log/corpus.md (hours; DOCUMENTS=100 for half an hour)
	$(BIN)/python -m bench.corpus --documents $(DOCUMENTS)

bench-trace: $(READY)  ## benchmark activations, also with TransformerLens, installed into .peers; write docs/log/trace.md (ten minutes, 3 GB)
	$(BIN)/python -m bench.trace --peers .peers

bench-speculation: $(READY)  ## benchmark --speculate ngram; write docs/log/speculation.md (five minutes)
	$(BIN)/python -m bench.speculation

bench-load: $(READY)  ## benchmark loading; write docs/log/loading.md (ten minutes, 10 GB of disk)
	$(BIN)/python -m bench.load

bench-serve: $(READY)  ## benchmark the server; write docs/log/serving.json and serving.png (a quarter of an hour)
	$(BIN)/python -m bench.serve

train-demo: $(READY)  ## train the demo checkpoint again (Debian or Ubuntu, one to two hours on two cores)
	$(BIN)/pip install -qq --editable '.[train]'
	$(BIN)/python -m tools.train_demo

steps: $(READY)  ## regenerate steps/ from solutions/, without touching edited files
	$(BIN)/python -m tutorial steps

check: $(READY)  ## check steps/step_04.py with STEP=4, or the next step
	@$(BIN)/python -m tutorial check $(STEP)

hint: $(READY)  ## print a hint for STEP=4, or the next one when repeated
	@$(BIN)/python -m tutorial hint $(STEP)

solution: $(READY)  ## print the solution of STEP=4 after a confirmation
	@$(BIN)/python -m tutorial solution $(STEP)

reset: $(READY)  ## reset STEP=4 to its skeleton; your file is backed up
	@$(BIN)/python -m tutorial reset $(STEP)

progress: $(READY)  ## show which steps are done
	@$(BIN)/python -m tutorial progress

watch: $(READY)  ## check each step when you save it, until Ctrl-C
	@$(BIN)/python -m tutorial watch

docs: $(READY)  ## serve the docs and the book on http://127.0.0.1:8000 (or PORT) with live reload, until Ctrl-C
	$(MKDOCS) serve --dev-addr 127.0.0.1:$(PORT)

docs-build: $(READY)  ## build the docs and the book into build/site; warnings are errors
	$(MKDOCS) build --strict --quiet

book: docs  ## alias of docs

book-build: docs-build  ## alias of docs-build

figures: $(READY)  ## redraw the figures of the book from the demo checkpoint
	$(BIN)/python -m tools.draw_figures

screenshots: $(READY)  ## take the pictures of the x-ray page in the docs (needs Chromium)
	$(BIN)/python -m tools.draw_screenshots

notebook: $(READY)  ## regenerate notebooks/tutorial.ipynb from solutions/ and the book
	$(BIN)/python -m tools.make_notebook

lock:  ## update requirements.lock to the newest versions that pyproject.toml allows
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install -qq --upgrade 'pip==26.3'
	.lock/bin/pip install -qq 'torch==2.13.0' && .lock/bin/pip install -qq '.[dev]'
	(echo '# Made by `make lock` for Python 3.11 on Linux.' && \
	  .lock/bin/pip freeze --exclude max-gpt2 | sed 's/+cpu$$//') > requirements.lock
	rm -rf .lock

clean:  ## remove .venv, caches and build output
	rm -rf .venv .lock .peers build .mypy_cache .pytest_cache .ruff_cache

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --upgrade 'pip==26.3'
	$(BIN)/pip install -qq --requirement requirements.lock
	$(BIN)/pip install -qq --no-deps --editable .
	touch $@
