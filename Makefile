# The two commands of a fresh machine with Python 3.11: `make run` and `make test`.
PYTHON ?= python3.11
VENV ?= .venv
AUDIT ?= pypi
BIN := $(VENV)/bin
# A file's tests share one worker (tests/schedule.py), and the longest begin first. Four for two cores: servers are waited for.
WORKERS ?= -n 4
PYTEST := $(BIN)/python -m pytest $(WORKERS)
export DO_NOT_TRACK = true
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Hundreds of processes that tests start would each compile our code.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run demo-browser test quick images nightly coverage drill lint docs setup setup-tests sample sbom audit lock clean

run: setup sample ## set up, then the sample recipe end to end
	@$(BIN)/deepmill run sample

demo-browser: $(VENV)/.ready-run ## the sample's champion in your browser, computed by it; after `make run`
	@$(BIN)/deepmill export --browser --open deepmill-sample@champion store/browser

test: setup-tests ## set up, then every test whose components are here, but for those of the night
	@$(PYTEST) -m "not nightly"

quick: setup-tests ## the tests of the edit loop: no servers, nothing long
	@$(PYTEST) -m "not nightly and not drill and not slow"

images: setup-tests ## the image of the data stages, built and run where podman can; its size
	@$(BIN)/python -m pytest -s tests/infra/deploy/test_images.py::test_the_corpus_image_makes_documents

nightly: setup-tests ## what CI runs once a day besides `make test`
	@DEEPMILL_TEST_EXAMPLES=whole $(PYTEST) -m "nightly or property"

coverage: setup-tests ## `make test` with the lines and branches that it reaches, in processes that tests start too
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(WORKERS) -m "not nightly"
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered

drill: setup-tests ## only the servers, in a browser, with PostgreSQL, S3 and a login, killed and restarted
	@$(BIN)/python -m pytest tests/flows/operations

lint: setup-tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: setup-tests ## the documentation as a site, in site/; fails on a link that leads nowhere
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --config-file docs/site/mkdocs.yml
	@echo site/index.html

setup: $(VENV)/.ready-run ## what a run needs

setup-tests: $(VENV)/.ready-test ## and what the tests and linters need

# Made anew when the dependencies change; half a virtual environment is never taken for a whole one.
$(VENV)/.ready-%: pyproject.toml constraints.txt infra/deploy/set_up.py infra/deploy/trim.py infra/deploy/warm.py infra/deploy/run.txt infra/deploy/test.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed; install Python 3.11 or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) infra/deploy/set_up.py $* $(VENV)
	@touch $@

sample: data/sample/manifest.json

data/sample/manifest.json: $(VENV)/.ready-run $(wildcard pipeline/sample/*.py) pipeline/reasoning/chains.py
	@$(BIN)/python -m pipeline.sample.gather data/sample
	@touch $@

sbom: setup-tests ## what is installed, as a CycloneDX bill of materials
	@$(BIN)/pip install --quiet --quiet --constraint constraints.txt --editable '.[audit]'
	@$(BIN)/cyclonedx-py environment --of JSON --output-file sbom.json $(BIN)/python
	@echo sbom.json

# --strict: what the service does not know counts against it, for a mirror without one knows nothing and finds nothing.
audit: setup-tests ## what is known against the locked versions; asks PyPI, or OSV with AUDIT=osv
	@$(BIN)/pip install --quiet --quiet --constraint constraints.txt --editable '.[audit]'
	@$(BIN)/pip-audit --strict --requirement constraints.txt --no-deps --disable-pip --vulnerability-service $(AUDIT)

# Asks the index of your pip configuration for the files of the locked versions, and downloads no more than it must.
lock: setup-tests ## requirements.lock: the locked versions with hashes, for pip install --require-hashes; what needs what, for set-up
	@$(BIN)/pip install --dry-run --ignore-installed --no-deps --quiet --report .lock.json --requirement constraints.txt
	@$(BIN)/python infra/deploy/lock.py .lock.json > requirements.lock; status=$$?; rm -f .lock.json; exit $$status
	@$(BIN)/python infra/deploy/closure.py all > infra/deploy/run.txt
	@$(BIN)/python infra/deploy/closure.py all cluster operations dev docs | comm -23 - infra/deploy/run.txt > infra/deploy/test.txt

clean: ## forget the environment, the sample and every artifact
	rm -rf $(VENV) data/sample store
