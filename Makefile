# Each target sets up .venv when it has to. `make PYTHON=python3.12 demo` uses another Python (3.11 or newer).
PYTHON ?= python3
MODEL ?= gpt2
CASES ?= 100000
PORT ?= 8000
BIN := .venv/bin
READY := .venv/ready
# The theme would say at each start that it has a successor.
MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.PHONY: demo huggingface serve serve-hostile serve-soak test fuzz lint format verify-sizes zoo bench bench-peers \
  bench-load bench-serve train-demo steps check hint solution reset progress watch figures notebook docs docs-build book book-build \
  lock clean

demo: $(READY)  ## load the checkpoint that ships into MAX and PyTorch, compare, and let both write
	$(BIN)/python main.py

huggingface: $(READY)  ## the same with MODEL=gpt2, gpt2-medium, any hub id or any folder
	$(BIN)/python main.py --model $(MODEL)

serve: $(READY)  ## serve MODEL=gpt2 to OpenAI's clients on PORT=8000, on this machine only
	$(BIN)/max-gpt2 serve --model $(MODEL) --port $(PORT)

serve-hostile: $(READY)  ## 2,000 requests that nobody should send, against a server of the checkpoint that ships (some minutes)
	$(BIN)/python -m tests.serve.front.hostile --requests 2000

serve-soak: $(READY)  ## ten minutes of load on it, its worker killed five times
	$(BIN)/python -m tests.serve.front.soak --minutes 10 --kills 5

test: lint docs-build  ## lint, types, the book, and all tests but the slow ones
	$(BIN)/pytest

fuzz: $(READY)  ## load CASES=100000 damaged checkpoints, others each time (a quarter of an hour)
	$(BIN)/python -m tests.fuzz --cases $(CASES)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

verify-sizes: $(READY)  ## verify random checkpoints of all four sizes and write docs/sizes.md (a quarter of an hour, 10 GiB of memory)
	$(BIN)/python -m tools.verify_sizes

zoo: $(READY)  ## compare MAX and PyTorch on a checkpoint of every kind and write docs/zoo.md (a quarter of an hour)
	$(BIN)/python -m tools.zoo

bench: $(READY)  ## read and write beside transformers and write docs/performance.md (ten minutes)
	$(BIN)/python -m bench.speed

bench-peers: $(READY)  ## the same with CTranslate2, OpenVINO, ONNX Runtime and llama.cpp, each in a venv under .peers (an hour, 15 GB)
	$(BIN)/python -m bench.speed --peers .peers

bench-load: $(READY)  ## load gpt2-large and gpt2-xl beside transformers and write docs/loading.md (ten minutes, 10 GB of disk)
	$(BIN)/python -m bench.load

bench-serve: $(READY)  ## load `max-gpt2 serve` and write docs/serving.json and docs/serving.png (a quarter of an hour)
	$(BIN)/python -m bench.serve

train-demo: $(READY)  ## train the checkpoint that ships anew (Debian or Ubuntu, one to two hours on two cores)
	$(BIN)/pip install -qq --editable '.[train]'
	$(BIN)/python -m tools.train_demo

steps: $(READY)  ## make the tutorial's skeletons anew from solutions/; work in them is left alone
	$(BIN)/python -m tutorial steps

check: $(READY)  ## check steps/step_04.py with STEP=4, or the next one to do
	@$(BIN)/python -m tutorial check $(STEP)

hint: $(READY)  ## a hint for STEP=4; asked again, the next one
	@$(BIN)/python -m tutorial hint $(STEP)

solution: $(READY)  ## the solution of STEP=4, once you are sure
	@$(BIN)/python -m tutorial solution $(STEP)

reset: $(READY)  ## start STEP=4 anew; a copy of your file is kept
	@$(BIN)/python -m tutorial reset $(STEP)

progress: $(READY)  ## what is done, and what is next
	@$(BIN)/python -m tutorial progress

watch: $(READY)  ## check every step that you save, until Ctrl-C
	@$(BIN)/python -m tutorial watch

docs: $(READY)  ## serve the docs and the book on http://127.0.0.1:8000 (or PORT) and rebuild on change, until Ctrl-C
	$(MKDOCS) serve --dev-addr 127.0.0.1:$(PORT)

docs-build: $(READY)  ## build the docs and the book into build/site; warnings are errors
	$(MKDOCS) build --strict --quiet

book: docs

book-build: docs-build

figures: $(READY)  ## draw the figures of the book anew, from the checkpoint that ships
	$(BIN)/python -m tools.draw_figures

notebook: $(READY)  ## make notebooks/tutorial.ipynb anew from solutions/ and the book
	$(BIN)/python -m tools.make_notebook

lock:  ## refresh requirements.lock: the newest versions that pyproject.toml allows
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/pip install -qq --upgrade 'pip==26.3'
	.lock/bin/pip install -qq 'torch==2.13.0' && .lock/bin/pip install -qq '.[dev]'
	(echo '# Made by `make lock` for Python 3.11 on Linux.' && \
	  .lock/bin/pip freeze --exclude max-gpt2 | sed 's/+cpu$$//') > requirements.lock
	rm -rf .lock

clean:
	rm -rf .venv .lock .peers build .mypy_cache .pytest_cache .ruff_cache

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -qq --upgrade 'pip==26.3'
	$(BIN)/pip install -qq --requirement requirements.lock
	$(BIN)/pip install -qq --no-deps --editable .
	touch $@
