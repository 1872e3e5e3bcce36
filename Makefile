# make venv    .venv with the pinned dependencies and this package, editable
# make demo    what the shipped hybrid model can do, then train one and compare them
# make mini    train the mini encoders and the models on them anew, most of a day, and measure them
# make superb-mini  SUPERB's five tasks on their mini sets, three seeds, two models, two baselines
# make bench   speed beside plain formulas; with S3PRL=PYTHON beside s3prl's own runner too
# make leaderboard  gather the committed results and the published ones
# make site    leaderboard and keyword pages to look at, in site/
# make docs    the documentation as a site, in site/docs; a broken link fails
# make readme  put the last demo's result and the tables into docs/ and the leaderboard
# make test    ruff, mypy and the whole test suite
# make espnet  the tests of upstreams and tasks on ESPnet's fork of s3prl, in an environment of its own
# make soak    the long form of what must survive: kills, processes, fuzz, bad and hostile files
# make lock    resolve requirements.lock anew
# make wheel   dist/*.whl and dist/*.tar.gz
# make clean   remove builds and caches; .venv and result/ stay
#
# Another Python: make venv PYTHON=/path/to/python3.12

SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))

# The first Python on the path that fits, unless the user names one.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	"$$python" -c '$(SUPPORTED)' 2>/dev/null && { echo "$$python"; break; }; done)

BIN := .venv/bin
READY := .venv/.ready
UV := $(BIN)/python -m uv --quiet
UV_PIN = $$(grep -o '^uv==[^ ;]*' requirements.lock)
TYPED := .mypy_cache/tree

.PHONY: venv as-wheel demo mini superb-mini bench leaderboard site docs readme test espnet soak lock wheel clean

venv: $(READY)

# Older than the lock or the package's own declaration: brought up to date, not made anew.
$(READY): requirements.lock pyproject.toml setup.py
	@"$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null || { echo \
	  "Python 3.10 to 3.13 is needed, found '$(PYTHON)'; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@if test -x $(BIN)/python && $(UV) --version >/dev/null 2>&1; then :; \
	elif "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "making .venv"; \
	  "$(PYTHON)" -m venv --clear .venv && $(BIN)/python -m pip install --quiet "$(UV_PIN)"; \
	elif "$(PYTHON)" -m pip --version >/dev/null 2>&1 && "$(PYTHON)" -c 'import venv' 2>/dev/null; then \
	  echo "making .venv"; \
	  "$(PYTHON)" -m venv --clear --without-pip .venv && "$(PYTHON)" -m pip install --quiet \
	    --target "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" "$(UV_PIN)"; \
	else \
	  echo "'$(PYTHON)' can make no virtual environment: it has neither ensurepip nor pip; install Debian's python3-venv or name another Python with PYTHON=" >&2; exit 1; \
	fi
	@echo "installing the dependencies of requirements.lock, some 3 GB, into .venv: a minute or more"
	@$(UV) pip sync --compile-bytecode --python $(BIN)/python requirements.lock
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: venv
	$(BIN)/python -m s3prl_speechclip.minis demo

mini: venv
	$(BIN)/python -m s3prl_speechclip.minis make

superb-mini: venv
	$(BIN)/python -m s3prl_speechclip.minis superb

bench: venv
	$(BIN)/python run_benchmark.py speed $(if $(S3PRL),--against-s3prl $(S3PRL))

leaderboard: venv
	$(BIN)/python run_benchmark.py leaderboard --results benchmarks/results

site: venv
	for name in speechclip_cascaded speechclip_plus speechclip_hybrid speechclip_hybrid_plus; do \
	  $(BIN)/python run_benchmark.py keywords -u $$name -k s3prl_speechclip/assets/mini/$$name \
	    --keep-states --out site/keywords-$$name.json || exit; done
	$(BIN)/python run_benchmark.py leaderboard --results benchmarks/results --out site

readme: venv
	$(BIN)/python -m s3prl_speechclip.cli.readme
	$(BIN)/python run_benchmark.py leaderboard --results benchmarks/results

docs: venv as-wheel
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# mypy and mkdocstrings follow folders, not setup.py's mapping: they read the package through links
# that lay the folders out as a wheel does.
as-wheel:
	@rm -rf $(TYPED) && mkdir -p $(TYPED)/s3prl_speechclip && cd $(TYPED)/s3prl_speechclip && \
	  ln -s ../../../s3prl_speechclip/* ../../../upstream ../../../benchmarks ../../../downstream_configs .

test: venv as-wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	MYPYPATH=$(TYPED) $(BIN)/mypy --package s3prl_speechclip
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

espnet: venv
	$(BIN)/python -m venv --clear --without-pip .espnet
	grep -v '^s3prl==' requirements.lock > .espnet/lock
	echo 'espnet-s3prl==2026.5.14' >> .espnet/lock
	$(UV) pip sync --python .espnet/bin/python .espnet/lock
	$(UV) pip install --python .espnet/bin/python --no-deps --no-build-isolation --editable .
	.espnet/bin/python -m pytest --numprocesses 2 --dist loadfile tests/upstream tests/downstream

SOAK := tests/pretrain/test_resume.py tests/pretrain/test_run.py tests/pretrain/test_two_hosts.py \
	tests/runtime \
	tests/cli/test_downstream.py tests/downstream/test_hostile.py tests/downstream/test_checks.py \
	tests/checkpoints/test_reading.py tests/data tests/encoders/test_image_features.py \
	tests/encoders/test_speech_features.py tests/minis/test_debian.py tests/modules \
	tests/test_config.py

soak: venv
	S3PRL_SPEECHCLIP_KILLS=20 $(BIN)/python -m pytest --hypothesis-profile=soak --durations=15 \
	  --numprocesses 2 --dist loadfile $(SOAK)

lock:
	@test -x $(BIN)/python || { echo "make venv first" >&2; exit 1; }
	@$(UV) pip compile --universal --python-version 3.10 --extra dev --upgrade \
	  --custom-compile-command "make lock" --output-file requirements.lock \
	  pyproject.toml requirements.in >/dev/null

wheel: venv
	$(BIN)/python -m build --no-isolation

clean:
	rm -rf build dist *.egg-info .espnet .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find s3prl_speechclip upstream benchmarks tests -name __pycache__ -prune -exec rm -rf {} +
