# What a person types: `make help` lists what is marked `##`, `make help-all` also what is marked `###`. GNU make 3.81 (macOS) and newer.
# Only relative paths, so that a folder with spaces works; programs of .venv by their path,
# because make 3.81 looks for programs along its own PATH and not along the one exported here.

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export SHELL # DVC runs stages by it, and the user's may be none

# What other programs leave in the environment is not meant for this one: settings of Python, the repository of a git
# hook, and values of the variables below, which count if they are typed after `make`.
unexport $(filter-out PYTHON,$(filter PYTHON%,$(.VARIABLES)))
unexport GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_COMMON_DIR GIT_OBJECT_DIRECTORY GIT_NAMESPACE GIT_PREFIX
$(foreach name,REV REVS PRESET SEED SIGN PACK BASE NAME SPEC FROM KEY VERSION ARGS FULL TORCH WHEELS,\
    $(if $(filter environment,$(origin $(name))),$(eval $(name) =)))

UV_VERSION = 0.13.9

N = 5
HEAD = workspace
OUTPUT = report.html

.PHONY: all setup setup-review setup-scale setup-dev test test-more test-whole lint quick compare report demo experiment sweep workers seeds audit verify release pull faults vulnerabilities bench bench-tests bench-scale portability lock lock-torch clean distclean help help-all
.NOTPARALLEL:

all: setup ## run what has changed, print the test metrics (also plain `make`; PYTHON=/a/python names a Python)
	.venv/bin/dvc repro
	@.venv/bin/python -m workflow.summary

setup: ### bring .venv to the lock of what `make` needs
	@sh workflow/setup.sh runtime

setup-review: ### bring .venv to the lock of what `make report`, `audit`, `verify` and `release` need
	@sh workflow/setup.sh review

setup-scale: ### bring .venv to the lock of what `make sweep`, `workers`, `seeds` and `audit REVS=` need
	@sh workflow/setup.sh scale

setup-dev: ### bring .venv to the lock of what `make test` and `make lint` need
	@sh workflow/setup.sh dev

test: setup-dev ## run the tests, five to ten minutes (ARGS="-k setup -x" goes to pytest)
	@.venv/bin/python -m bench.tests test $(ARGS)

test-more: setup-dev ### run what CI adds to these: kills, full disks, hostile input, sweeps on Ray and on a cluster
	@.venv/bin/python -m bench.tests more $(ARGS)

test-whole: setup-dev ### run all tests there are, also what is too long for CI, half an hour
	@.venv/bin/python -m bench.tests whole $(ARGS)

lint: setup-dev ### check style (ruff), types (mypy), imports between rooms (import-linter), CI's files (actionlint, zizmor)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo --no-cache
	.venv/bin/actionlint .github/workflows/*.yml
	.venv/bin/zizmor --offline --no-progress --quiet .github/workflows

quick: setup ## run every stage on the real data with cut-down parameters, in a temporary copy (NAME=digits: of a preset)
	@.venv/bin/python -m workflow.quick $(if $(NAME),"$(NAME)")

compare: setup ## is HEAD better than BASE, with errors: BASE=main HEAD=workspace (ARGS="--format md --fail-if-worse")
	@.venv/bin/python -m workflow.compare "$(or $(BASE),main)" "$(HEAD)" $(ARGS)

report: setup-review ## write one page, OUTPUT=report.html, for HEAD=workspace, or beside BASE=REVISION
	@.venv/bin/python -m workflow.report "$(HEAD)" $(if $(BASE),"$(BASE)") --output "$(OUTPUT)"

demo: setup ### write the folder demo/ for any static server: the networks at work in a browser (docs/demo.md)
	@.venv/bin/python -m workflow.demo

experiment: setup ## run a preset as a DVC experiment and record it: NAME=textbook (ARGS=--force goes to dvc exp run)
	@.venv/bin/python -m workflow.experiment "$(NAME)" $(ARGS)

sweep: setup-scale ## train many times with other parameters, by Ray: SPEC=sweeps/learning.yaml (RAY_ADDRESS: on a cluster)
	@.venv/bin/python -m workflow.scale.sweep "$(SPEC)"

workers: setup-scale ### share one training among train.workers processes, by Ray, as a DVC experiment (RAY_ADDRESS: on a cluster)
	@.venv/bin/python -m workflow.scale.shared_training

seeds: setup-scale ## run the parameters with N seeds as DVC experiments and record the spread: N=5
	@.venv/bin/python -m workflow.scale.seeds "$(N)"

audit: setup-review ## prove a commit's numbers by running it anew: REV=HEAD PRESET= SEED= SIGN=key.pem PACK= (ARGS="--quick --strict")
	@$(if $(REVS),sh workflow/setup.sh scale && .venv/bin/python -m workflow.scale.audits "$(REVS)",$\
	    .venv/bin/python -m workflow.audit "$(or $(REV),HEAD)") $(if $(PRESET),--preset "$(PRESET)") $(if $(SEED),--seed "$(SEED)") \
	    $(if $(SIGN),--sign "$(SIGN)") $(if $(PACK),--pack "$(PACK)") $(ARGS)

verify: setup-review ### prove a signed audit offline: FROM=audits/COMMIT KEY=key.pub
	@.venv/bin/python -m workflow.audit.verify "$(FROM)" "$(KEY)"

release: setup-review ### check that everything is in date, pack it, also for a hub, tag the commit: VERSION=1.0.0 SIGN=key.pem
	@.venv/bin/python -m workflow.release "$(VERSION)" $(if $(SIGN),--sign "$(SIGN)")

pull: setup ## fill DVC's cache from the pack of a release instead of training: FROM=path-or-url
	@.venv/bin/python -m workflow.release.pull "$(FROM)"

faults: setup-dev ### kill, fill disks, vary the machine, feed hostile input, and count: bench/faults.md
	@.venv/bin/python -m bench.tests faults $(ARGS)

vulnerabilities: setup-dev ### look up the locked packages in the database of PyPI; needs the internet
	.venv/bin/pip-audit --strict --require-hashes --disable-pip -r requirements/dev.txt

portability: setup ### run the pipeline with other kernels and threads, an hour: what differs (ARGS="avx2 one_thread"; ARGS=processor)
	@.venv/bin/python -m bench.portability $(ARGS)

bench: setup ### time training beside the textbook's and all stages beside an earlier commit's, two hours (FULL=1 repeats whole runs; TORCH=1 installs PyTorch)
	@if [ -n "$(TORCH)" ] && ! cmp -s requirements/torch.txt .venv-torch/installed.txt; then \
	    rm -rf .venv-torch && .venv/bin/python -m venv .venv-torch && \
	    .venv-torch/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements/torch.txt && \
	    cp requirements/torch.txt .venv-torch/installed.txt; \
	fi
	@.venv/bin/python -m bench $(if $(FULL),--full)

bench-tests: setup-dev ### time .ci/run in a clone, and write bench/tests.json
	@.venv/bin/python -m bench.tests

bench-scale: setup-scale ### time a sweep on one and two workers against its trials by hand, a quarter of an hour; after make
	@.venv/bin/python -m bench.scaling

lock: setup ### make requirements/ and numeric.txt anew from pyproject.toml (ARGS=--upgrade: with the newest versions)
	@set -eu; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	.venv/bin/python -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"; \
	compile() { \
	    "$$folder/bin/uv" pip compile --universal --generate-hashes --python-version 3.11 --no-annotate --quiet \
	        --custom-compile-command "make lock" $(ARGS) "$$@"; \
	}; \
	compile pyproject.toml -o requirements/runtime.txt; \
	compile pyproject.toml --extra review -c requirements/runtime.txt -o requirements/review.txt; \
	compile pyproject.toml --extra review --extra scale -c requirements/review.txt -o requirements/scale.txt; \
	compile pyproject.toml --all-extras -c requirements/scale.txt -o requirements/dev.txt; \
	echo 'setuptools>=80' | compile - -c requirements/runtime.txt -o requirements/build.txt; \
	.venv/bin/python -m pipeline.environment --write; \
	git diff --stat -- requirements numeric.txt

lock-torch: ### make requirements/torch.txt anew from the wheel of PyTorch's CPU build in the folder WHEELS
	@set -eu; folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	.venv/bin/python -m venv "$$folder"; \
	"$$folder/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"; \
	printf 'torch==2.13.0+cpu\nnumpy\n' | "$$folder/bin/uv" pip compile --find-links "$(WHEELS)" \
	    --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate --quiet \
	    --custom-compile-command "make lock-torch" -c requirements/runtime.txt - -o requirements/torch.txt

clean: ## say what takes how much disk and how to free it; remove what is no loss (tool caches, runs/, state/)
	@for held in state/*.lock; do \
	    if [ -s "$$held" ] && ps -o args= -p "$$(cat "$$held")" 2>/dev/null | grep -q -e "-m stages"; then \
	        echo "make clean: process $$(cat "$$held") holds $$held and works; wait for it, or stop it" >&2; exit 1; \
	    fi; \
	done
	@echo "On disk:"; \
	for folder in .venv .venv-torch .dvc/cache data runs state dvc_plots; do \
	    if [ -e "$$folder" ]; then du -sh "$$folder"; fi; \
	done
	@rm -rf runs state dvc_plots .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . \( -name .venv -o -name .git -o -name .dvc \) -prune -o -name __pycache__ -prune -exec rm -rf {} +
	@echo "Removed: tool caches, runs/ (run records), state/ (unfinished work), dvc_plots/."
	@echo "To free the rest without losing a commit or an experiment:"
	@echo "  .venv/bin/dvc gc --workspace --all-commits --all-experiments   results in .dvc/cache that none of them uses"
	@echo "  make distclean    .venv and data/ too: make installs .venv again, .venv/bin/dvc checkout restores data/"

distclean: clean ### clean, and remove .venv and data/ (never .dvc/cache: dvc checkout restores data/ from it)
	@rm -rf .venv .venv-torch
	@git clean -ffdXq -- data
	@echo "Removed: .venv, data/. To have them again: make"

help: ### list the targets that most people need
	@awk 'BEGIN { FS = ":[^#]*## " } /^[a-z-]+:[^#]*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

help-all: ## list all targets
	@awk 'BEGIN { FS = ":[^#]*###* " } /^[a-z-]+:[^#]*###* / { printf "make %-15s %s\n", $$1, $$2 }' Makefile
