# The dev loop. Plain `make` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
PRODUCT := api_service outbox_relay delivery_consumer dlq_consumer shared
CODE := $(PRODUCT) infra loadtest tests
EXTRAS := api relay delivery dlq
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo up-local down-local status-local fmt lint types test test-unit test-integration test-e2e \
        test-hostile model chaos fuzz crash-test check proof lock up down logs psql key clean \
        load-test load-smoke load-stress load-spike load-soak dlq-test report bench

help:  ## list what can be done
	@awk -F ':.*## ' '/^[a-z0-9_-]+:.*## / {printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## a virtual environment with everything pinned in locks/dev.txt

$(INSTALLED): locks/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## the whole pipeline on real PostgreSQL and Kafka, told as a story; exit 0 if every promise held
	@$(BIN)/python -m infra.local demo

up-local: install  ## start the stack on this machine, no Docker; prints the URLs and a curl to paste
	@$(BIN)/python -m infra.local up

down-local: install  ## end what up-local started
	@$(BIN)/python -m infra.local down

# Exit code 3 is "not ready": the status has said so, and make need not add an error of its own.
status-local: install  ## ask each part of the local stack whether it is ready, and say where it is
	@$(BIN)/python -m infra.local status || test $$? -eq 3

fmt: install  ## format the code
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

lint: install  ## ruff, bandit, our own rules, and the import rules between packages
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml -ll $(PRODUCT) infra loadtest
	@$(PYTEST) tests/unit/test_own_rules.py -q --no-header

types: install  ## mypy --strict
	@$(BIN)/mypy $(CODE)

test: install  ## all tests, with branch coverage; real PostgreSQL and Kafka from Python packages
	@$(BIN)/coverage erase
	@$(PYTEST) tests/unit tests/contract -q -n 2 --cov --cov-report= --cov-fail-under=0
	@$(PYTEST) tests/integration -q -n 4 --dist loadscope --cov --cov-append --cov-report= --cov-fail-under=0
	@$(PYTEST) tests/model -q -n 2
	@$(PYTEST) tests/e2e -q
	@$(BIN)/coverage report

test-unit: install  ## the fast tests: no network, no database
	@$(PYTEST) tests/unit tests/contract -q -n 2

test-integration: install  ## each service against real PostgreSQL and Kafka
	@$(PYTEST) tests/integration -q -n 4 --dist loadscope

test-e2e: install  ## the whole stack as processes, with kill -9 on the way
	@$(PYTEST) tests/e2e -q

test-hostile: install  ## forbidden addresses that answer, in a network namespace of their own; needs root, iptables
	@TESTS_IN_NAMESPACE=1 unshare --net --mount $(PYTEST) tests/hostile -q

SEED ?= 1
MINUTES ?= 3
RATE ?= 700
STEPS ?= 50000

model: install  ## the pipeline as a state machine, for long: make model STEPS=50000 SEED=1
	@$(BIN)/python -m tests.model --steps $(STEPS) --seed $(SEED)

chaos: install  ## one seed of the chaos test: make chaos SEED=7 MINUTES=4 RATE=500
	@$(BIN)/python -m tests.chaos chaos --seed $(SEED) --minutes $(MINUTES) --rate $(RATE)

fuzz: install  ## the API by its own description, and every parser of what comes from outside: make fuzz MINUTES=10 SEED=1
	@$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --seed $(SEED) $(ARGS)

crash-test: install  ## kill every service at each crash point, twice; MUTANT=name: a bug that must be caught, or all
	@$(BIN)/python -m tests.chaos crash-test $(if $(MUTANT),--mutant $(MUTANT))

check: lint types test  ## lint, types and all tests

proof: install  ## measure one promise on a stack of its own: make proof p=recovery; without p=: list them
	@$(BIN)/python -m tests.proofs $(p)

# Options of those that begin with load-: ARGS="--rate 300 --set mix.single_share=0", of dlq-test: --set; TARGET_URL=https://... loads an installation elsewhere.
load-test: install  ## load: an ordinary day, 200/s, in four minutes; every message followed to its receiver
	@$(BIN)/python -m loadtest run load --seed $(SEED) $(ARGS)

load-smoke: install  ## load: does everything work, in less than a minute
	@$(BIN)/python -m loadtest run smoke --seed $(SEED) $(ARGS)

load-stress: install  ## load: find the capacity, the highest rate held for a minute
	@$(BIN)/python -m loadtest run stress --seed $(SEED) $(ARGS)

load-spike: install  ## load: ten times the rate, twice, without a warning
	@$(BIN)/python -m loadtest run spike --seed $(SEED) $(ARGS)

load-soak: install  ## load: an hour at half of the capacity; nothing is lost, nothing grows
	@$(BIN)/python -m loadtest run soak --seed $(SEED) $(ARGS)

dlq-test: install  ## 10,000 notifications to receivers that fail in six ways and heal; every dead letter is followed
	@$(BIN)/python -m loadtest dlq --seed $(SEED) $(ARGS)

report: install  ## pages of all load tests so far, and an index that compares two: .local/reports/index.html
	@$(BIN)/python -m loadtest report $(ARGS)

bench: install  ## each stage alone, beside its limit and its peers, in interleaved rounds
	@$(BIN)/python -m loadtest.peers
	@$(BIN)/python -m loadtest bench --seed $(SEED) $(ARGS)

lock: install  ## resolve anew and write locks/*.txt: one resolution, a file per image
	@$(BIN)/python -m pip install --quiet uv==0.13.8
	@$(BIN)/uv pip compile pyproject.toml --extra dev $(LOCK_FLAGS) -o locks/dev.txt
	@for extra in $(EXTRAS); do \
	  $(BIN)/uv pip compile pyproject.toml --extra $$extra -c locks/dev.txt $(LOCK_FLAGS) -o locks/$$extra.txt; done
	@$(BIN)/uv pip compile loadtest/peers/pyproject.toml -c locks/dev.txt $(LOCK_FLAGS) -o loadtest/peers/locks/peers.txt

LOCK_FLAGS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet

# The first line of each recipe that needs Docker Compose: without it make ends here, with this one line and exit code 2.
COMPOSE = $(if $(shell docker compose version 2>/dev/null),,$(error Docker Compose is needed for this; without it: $(1)))

up:  ## docker compose: the whole system with Prometheus, Grafana and a mail viewer
	$(call COMPOSE,make up-local)
	docker compose up --detach --build --wait

key:  ## an API key of all scopes under compose, and its tenant where that is missing: make key tenant=shop name=till
	$(call COMPOSE,make up-local prints one)
	docker compose run --rm notify_admin create-tenant $(or $(tenant),local --operator) --if-missing --key $(or $(name),local)

down:  ## stop what `make up` started; data stays in its volumes
	$(call COMPOSE,make down-local)
	docker compose down

logs:  ## follow the logs of one service under compose: make logs s=outbox_relay
	$(call COMPOSE,the logs of up-local are in .local/stack/logs)
	docker compose logs --follow $(s)

psql:  ## a prompt in the database under compose
	$(call COMPOSE,make up-local and psql with the URL it prints)
	docker compose exec postgres psql --username notify notifications

clean:  ## end the local stack; remove the virtual environment, local data and caches
	@if $(BIN)/python -c 'import infra.local.__main__' 2>/dev/null; then $(BIN)/python -m infra.local down > /dev/null; fi
	rm -rf $(VENV) .local .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
