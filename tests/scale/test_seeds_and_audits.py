"""Seeds and audits on the embedded Ray of one machine."""

import json
import sys

import pytest
from clusters import isolated
from conftest import Project

SEEDS = isolated(sys.executable, "-m", "workflow.scale.seeds")
STALE_SEEDS = (sys.executable, "-c", "from workflow.history import seeds; print(seeds.stale())")
AUDITS = isolated(sys.executable, "-m", "workflow.scale.audits")

pytestmark = [pytest.mark.whole, pytest.mark.usefixtures("one_ray")]


def test_seeds_are_run_once_as_experiments_and_recorded(project: Project) -> None:
    metrics = json.loads((project.folder / "metrics/evaluation.json").read_text())
    head = project.succeed("git", "rev-parse", "HEAD").strip()
    done = project.run(*SEEDS, "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seeds: runs 2\n" in done.stdout  # the first is the commit's own
    record = json.loads((project.folder / "metrics/seeds.json").read_text())
    own, other = record["runs"]
    assert [own["seed"], other["seed"]] == [1, 2]
    assert own["metrics"]["evaluation"]["test"]["gray"]["elbo_nats"] == metrics["test"]["gray"]["elbo_nats"]
    assert own["weights"] != other["weights"]
    assert own["weights"] in (project.folder / "dvc.lock").read_text()
    for name in ("evaluation", "representation", "outliers", "samples"):
        assert own["metrics"][name] != other["metrics"][name]
    assert [own["commit"], other["commit"]] == [head, head]
    ran = project.json("runs/train.json")
    told = (ran["processor"], round(ran["seconds"], 1), round(ran["peak_memory_mib"]))
    assert (own["processor"], own["seconds"], own["peak_memory_mib"]) == told
    assert other["processor"] == ran["processor"]
    assert 0 < other["seconds"] < 600
    assert 100 < other["peak_memory_mib"] < 100 * 1024
    assert json.loads((project.folder / "metrics/evaluation.json").read_text()) == metrics
    assert "seed-2-" in project.run("dvc", "exp", "show", "--csv").stdout
    assert project.run(*STALE_SEEDS).stdout.strip() == "False"

    project.commit("Seeds")
    forged = json.loads((project.folder / "metrics/seeds.json").read_text())
    forged["runs"][1]["metrics"]["evaluation"]["test"]["gray"]["elbo_nats"] += 1
    (project.folder / "metrics/seeds.json").write_text(json.dumps(forged))
    project.commit("A seed forged")
    audited = project.run(sys.executable, "-m", "workflow.audit", "--seed", "2")
    assert audited.returncode == 1, audited.stdout + audited.stderr
    assert [line for line in audited.stdout.splitlines() if " differs:" in line] == [
        line for line in audited.stdout.splitlines() if "seed 2: metrics/evaluation.json differs: " in line
    ]
    assert project.run("git", "reset", "--hard", "HEAD~1").returncode == 0
    for cost in project.folder.glob("runs/*.json"):  # as `make clean` does: the record itself has what they tell
        cost.unlink()
    again = project.run(*SEEDS, "2")
    assert again.returncode == 0
    assert "seeds: runs" not in again.stdout
    assert project.json("metrics/seeds.json") == record
    project.set_params({"train": {"seed": 9}})
    assert project.run(*STALE_SEEDS).stdout.strip() == "False"
    project.set_params({"represent": {"iterations": 9}})
    assert project.run(*STALE_SEEDS).stdout.strip() == "True"
    refused = project.run(*SEEDS, "2")
    assert refused.returncode == 1
    assert "params.yaml is not as committed" in refused.stderr
    project.set_params({"train": {"workers": 2}})
    refused = project.run(*SEEDS, "2")
    assert refused.returncode == 1
    assert "seeds: train.workers = 2: expected 1" in refused.stderr


def test_each_revision_is_audited_and_the_worst_verdict_is_the_status(project: Project) -> None:
    assert project.run("git", "tag", "good").returncode == 0
    figures = project.folder / "metrics/evaluation.json"
    figures.write_text(figures.read_text().replace("1", "2", 1), encoding="utf-8")
    project.commit("A metric of another pipeline")
    assert project.run(*AUDITS, "good", "--quick").returncode == 0
    done = project.run(*AUDITS, "good HEAD", "--quick")
    assert done.returncode == 1, done.stdout + done.stderr
    rows = [line.split()[1] for line in done.stdout.splitlines() if "audits/" in line]
    assert rows == ["identical,", "differs"]
    unknown = project.run(*AUDITS, "good bad", "--quick")
    assert unknown.returncode == 2
    assert "revision 'bad': expected a commit" in unknown.stderr
