"""Audits of true and of tampered commits of the slice; signatures, by the signing library and by OpenSSL."""

import base64
import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from hashlib import md5, sha256
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import ROOT, Project, command_of, outs_of, remove, run_steps, without_results
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement_pb2 import Statement
from ruamel.yaml import YAML

from workflow.audit.evidence import not_proved
from workflow.history.revisions import Revision

AUDIT = ("python", "-m", "workflow.audit")
VERIFY = ("python", "-m", "workflow.audit.verify")


def audit(project: Project, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, what was said, and the annotations of the record, of an audit of HEAD."""
    done = project.run(*AUDIT, *options, "--output", "audits/it")
    path = project.folder / "audits/it/audit.json"
    return done.returncode, done.stdout + done.stderr, annotations(path) if path.is_file() else {}


def annotations(record: Path) -> dict[str, Any]:
    """The project's own part of a record."""
    return json.loads(record.read_text(encoding="utf-8"))["predicate"]["runDetails"]["byproducts"][0]["annotations"]


def hex_md5(content: bytes) -> str:
    return md5(content, usedforsecurity=False).hexdigest()


def replace(project: Project, path: str, *pairs: tuple[str, str]) -> None:
    """Replaces texts, each of which has to be there, in a file."""
    file = project.folder / path
    text = file.read_text(encoding="utf-8")
    for before, after in pairs:
        assert before in text, before
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")


def append(project: Project, path: str, line: str) -> None:
    with (project.folder / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")


def forge(project: Project, path: str, content: bytes, *, provenance: bool = False) -> None:
    """Replaces a git-tracked file with its entries of dvc.lock and, if asked, of every stage's provenance."""
    file = project.folder / path
    before = file.read_bytes()
    file.write_bytes(content)
    replace(project, "dvc.lock", (hex_md5(before), hex_md5(content)))
    old, new = sha256(before).hexdigest(), sha256(content).hexdigest()
    for record in sorted((project.folder / "metrics/provenance").glob("*.json")) if provenance else []:
        text = record.read_bytes()
        if old.encode() in text:
            forge(project, f"metrics/provenance/{record.name}", text.replace(old.encode(), new.encode()))


def moved(project: Project, path: str, keys: tuple[str | int, ...], by: float) -> bytes:
    """The content of a JSON file with one number moved."""
    content = json.loads((project.folder / path).read_text(encoding="utf-8"))
    part = content
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = round(part[keys[-1]] + by, 6)
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


EVALUATION, PER_IMAGE, SEEDS = "metrics/evaluation.json", "metrics/per_image.npz", "metrics/seeds.json"
FIGURES = "metrics/figures"

NLL = ("test", "binarised", "nll_nats")


def lower_nll(project: Project) -> bytes:
    return moved(project, EVALUATION, NLL, -0.1)


def edited_class(project: Project) -> None:
    table = (project.folder / "metrics/per_class.csv").read_text(encoding="utf-8")
    row = next(line for line in table.splitlines() if line.startswith("test,binarised,Bag,"))
    cells = row.split(",")
    cells[-2] = f"{float(cells[-2]) - 0.1:.6g}"
    forge(project, "metrics/per_class.csv", table.replace(row, ",".join(cells)).encode(), provenance=True)


def changed_source(project: Project) -> None:
    append(project, "vae/statistics.py", "changed = True")


def source_edited_while_its_stage_ran(project: Project) -> None:
    """Code, digests and lock are of the edited source; the stage's own record is not."""
    before = (project.folder / "metrics/code.json").read_bytes()
    changed_source(project)
    assert project.run(*command_of(project, "check")).returncode == 0
    after = (project.folder / "metrics/code.json").read_bytes()
    old, new = json.loads(before), json.loads(after)
    pairs = [(old[stage], new[stage]) for stage in old if old[stage] != new[stage]]
    replace(project, "dvc.lock", *pairs, (hex_md5(before), hex_md5(after)))


def digests_of_other_code(project: Project) -> None:
    """A file of digests, made up so that edited code looks as if it had run."""
    changed_source(project)
    replace(project, "metrics/code.json", ('"train": "', '"train": "0'))


def model_md5(project: Project) -> str:
    return outs_of(project, "train")["data/model"]


def cached(project: Project, digest: str) -> Path:
    return project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def replaced_weights(project: Project) -> None:
    """Replaces the encoder's weights, in the cache and with every entry of the lock, too."""
    path, before = project.folder / "data/model/encoder.weights.h5", model_md5(project)
    listing = json.loads(cached(project, before).read_bytes())
    content = path.read_bytes() + b"x"
    path.unlink()  # it may be a link into the cache
    path.write_bytes(content)
    next(entry for entry in listing if entry["relpath"] == path.name)["md5"] = hex_md5(content)
    text = json.dumps(listing, sort_keys=True).encode()
    for made, digest in ((content, hex_md5(content)), (text, f"{hex_md5(text)}.dir")):
        cached(project, digest).parent.mkdir(exist_ok=True)
        cached(project, digest).write_bytes(made)
    replace(project, "dvc.lock", (before, f"{hex_md5(text)}.dir"))


def damaged_weights(project: Project) -> None:
    """Flips a bit of the encoder's weights in the cache."""
    listing = json.loads(cached(project, model_md5(project)).read_bytes())
    file = cached(project, next(entry["md5"] for entry in listing if entry["relpath"] == "encoder.weights.h5"))
    file.chmod(0o644)
    flip(file, 5000)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def half_of_another_lock(project: Project) -> None:
    """A merge that took the entry of what `train` wrote from another branch."""
    text = (project.folder / "dvc.lock").read_text(encoding="utf-8")
    before, train, rest = text.partition("  train:\n")
    rest = rest.replace(model_md5(project), f"{'0' * 32}.dir", 1)
    (project.folder / "dvc.lock").write_text(before + train + rest, encoding="utf-8")


def edited_environment(project: Project) -> None:
    path = project.folder / "requirements/runtime.txt"
    line = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("numpy=="))
    replace(project, "requirements/runtime.txt", (line, "numpy==1.0.0 \\"))


def edited_card(project: Project) -> None:
    content = (project.folder / "metrics/model_card.md").read_bytes()
    row = next(line for line in content.splitlines() if line.startswith(b"| test, binarised |"))
    forge(project, "metrics/model_card.md", content.replace(row, row[:-3] + b"9 |"), provenance=True)


def committed_state(project: Project) -> None:
    """State from which `evaluate` would go on."""
    path = project.folder / "state/evaluate-0.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez(path, done=np.zeros(1))
    assert project.run("git", "add", "--force", str(path)).returncode == 0


def write_seeds(project: Project) -> None:
    """A record of two seeds: the commit's own run, and one that is said to be of another seed."""
    code = """
        import json
        from workflow.history import seeds
        from workflow.history.revisions import resolve
        run = seeds.run_of(resolve("workspace"))
        runs = [run, {**run, "seed": run["seed"] + 1}]
        seeds.PATH.write_text(json.dumps({"digest": seeds.seeds_digest(), "runs": runs}))
    """
    done = project.run("python", "-c", dedent(code))
    assert done.returncode == 0, done.stderr


def with_seeds(keys: tuple[str | int, ...], by: float) -> Callable[[Project], None]:
    """Writes that record with one number moved."""

    def tamper(project: Project) -> None:
        write_seeds(project)
        (project.folder / SEEDS).write_bytes(moved(project, SEEDS, keys, by))

    return tamper


edited_seed = with_seeds(("runs", 0, "metrics", "evaluation", *NLL), 0.1)


def seed_of_other_weights(project: Project) -> None:
    write_seeds(project)
    replace(project, SEEDS, (model_md5(project), "0" * 32 + ".dir"))


def seed_of_another_class(project: Project) -> None:
    """Where a tolerance would hide the edit."""
    edited_seed(project)
    replace(project, SEEDS, ('"caches": "', '"caches": "9K '))


def as_before_digests(project: Project) -> None:
    """Commits the project in its older form: stages name their sources, and record a sha256 of each."""
    write_seeds(project)
    append(project, "pipeline/environment.py", "DESCRIPTION = __doc__")  # which code may not read any more
    yaml, folder = YAML(), project.folder
    graph, lock = (yaml.load(folder / name) for name in ("dvc.yaml", "dvc.lock"))
    code = [str(path.relative_to(folder)) for part in CODE_FOLDERS for path in sorted((folder / part).rglob("*.py"))]
    for name, stage in lock["stages"].items():
        entries = [{"path": path, "hash": "md5", **facts(folder / path)} for path in code]
        stage["deps"] = [one for one in stage.get("deps", []) if one["path"].startswith(("data", "metrics"))] + entries
        stated = graph["stages"][name]
        stated["deps"] = [one for one in stated.get("deps", []) if one.startswith(("data", "metrics"))] + code
        if name == "check":
            for entry in (stage, stated):
                entry["outs"] = [one for one in entry["outs"] if "code.json" not in str(one)]
        else:
            stage["params"].pop("metrics/code.json")
            stated["params"] = [one for one in stated["params"] if isinstance(one, str)]
        path = folder / f"metrics/provenance/{name}.json"
        (record,) = json.loads(before := path.read_bytes())
        del record["code"]
        record["outputs"].pop("metrics/code.json", None)
        record["sources"] = {source: sha256((folder / source).read_bytes()).hexdigest() for source in code}
        path.write_text(json.dumps([record]), encoding="utf-8")
        for out in stage["outs"]:
            if out["md5"] == hex_md5(before):
                out |= facts(path)
    for name, content in (("dvc.yaml", graph), ("dvc.lock", lock)):
        yaml.dump(content, folder / name)
    remove(project, "metrics/code.json")
    project.commit("As before")


def facts(file: Path) -> dict[str, Any]:
    return {"md5": hex_md5(file.read_bytes()), "size": file.stat().st_size}


#: Folders of the code that stages run.
CODE_FOLDERS = ("pipeline", "stages", "vae")

TAMPERED: Mapping[str, tuple[Callable[[Project], object], str, str]] = {
    "an edited metric": (
        lambda project: (project.folder / EVALUATION).write_bytes(lower_nll(project)),
        "results",
        EVALUATION,
    ),
    "a metric and its entry of the lock": (
        lambda project: forge(project, EVALUATION, lower_nll(project)),
        "provenance",
        EVALUATION,
    ),
    "a metric and all that states it": (
        lambda project: forge(project, EVALUATION, lower_nll(project), provenance=True),
        "values",
        f"{EVALUATION} test.binarised.nll_nats",
    ),
    "a class and all that states it": (edited_class, "values", "metrics/per_class.csv test.binarised.Bag.nll_nats"),
    "losses that are none": (
        lambda project: forge(project, PER_IMAGE, b"no arrays", provenance=True),
        "values",
        "values",
    ),
    "losses that are empty": (lambda project: forge(project, PER_IMAGE, b"", provenance=True), "values", "values"),
    "a figure of the card and all that states it": (edited_card, "card", "metrics/model_card.md"),
    "unfinished work committed": (committed_state, "unfinished", "state/evaluate-0.npz"),
    "a path out of the project": (
        lambda project: replace(project, "dvc.lock", ("path: metrics/baseline.json", "path: ../metrics/baseline.json")),
        "lock",
        "dvc.lock",
    ),
    "a record that is none": (
        lambda project: forge(project, "metrics/provenance/train.json", b'[{"outputs": 3}]'),
        "provenance",
        "metrics/provenance/train.json",
    ),
    "an edited figure": (
        lambda project: shutil.copy(
            project.folder / f"{FIGURES}/reconstructions.png", project.folder / f"{FIGURES}/samples.png"
        ),
        "results",
        FIGURES,
    ),
    "a parameter changed without a run": (
        lambda project: project.set_params({"train": {"learning_rate": 0.002}}),
        "causes",
        "params.yaml",
    ),
    "a source changed without a run": (changed_source, "causes", "the code of summarise"),
    "a source edited while its stage ran": (source_edited_while_its_stage_ran, "provenance", "the code of summarise"),
    "digests edited to hide other code": (digests_of_other_code, "causes", "the code of summarise"),
    "weights replaced": (replaced_weights, "provenance", "data/model/encoder.weights.h5"),
    "an object of the cache damaged": (damaged_weights, "cache", "data/model/encoder.weights.h5"),
    "a conflict left in the lock": (
        lambda project: replace(project, "dvc.lock", ("stages:\n", "stages:\n<<<<<<< HEAD\n=======\n>>>>>>> other\n")),
        "lock",
        "dvc.lock",
    ),
    "half of another branch's lock": (half_of_another_lock, "lock", "data/model"),
    "a loss of the own seed edited": (edited_seed, "seeds", f"{SEEDS}: seed 1"),
    "a loss and the class of the own seed edited": (seed_of_another_class, "seeds", f"{SEEDS}: seed 1"),
    "other weights of the own seed": (seed_of_other_weights, "seeds", f"{SEEDS}: seed 1"),
    "the own seed left out": (with_seeds(("runs", 0, "seed"), 5), "seeds", f"{SEEDS}: seed 1"),
    "a seed twice": (with_seeds(("runs", 1, "seed"), -1), "seeds", SEEDS),
    "a conflict left in the seeds": (
        lambda project: (project.folder / SEEDS).write_text("<<<<<<< ours", encoding="utf-8"),
        "seeds",
        SEEDS,
    ),
    "the lock of the environment edited": (edited_environment, "environment", "numeric.txt"),
}


#: One of each look of the quick audit: `make test` tries these.
QUICK = {
    "a metric and all that states it",
    "a metric and its entry of the lock",
    "a figure of the card and all that states it",
    "unfinished work committed",
    "half of another branch's lock",
    "a loss of the own seed edited",
}


@pytest.mark.parametrize(
    ("tamper", "check", "subject"),
    [
        pytest.param(*case, id=name, marks=[] if name in QUICK else [pytest.mark.whole])
        for name, case in TAMPERED.items()
    ],
)
def test_tampering_is_found_without_training(
    project: Project, tamper: Callable[[Project], object], check: str, subject: str
) -> None:
    tamper(project)
    if project.run("git", "status", "--porcelain").stdout:
        project.commit("Tampered")
    status, said, found = audit(project, "--quick")
    assert status == 1, said
    assert found["verdict"] == "differs"
    assert any(one["check"] == check and one["subject"].startswith(subject) for one in found["findings"]), said
    page = (project.folder / "audits/it/audit.html").read_text(encoding="utf-8")
    assert subject in page
    assert project.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("revision", ["HEAD", "workspace", "of the form before metrics/code.json"])
def test_a_true_commit_is_consistent(project: Project, revision: str) -> None:
    if " " in revision:
        as_before_digests(project)
        revision = "HEAD"
    status, said, found = audit(project, revision, "--quick")
    assert (status, found["verdict"], found["findings"]) == (0, "consistent", []), said
    assert set(found["looked_at"]) == {
        "lock", "results", "causes", "provenance", "values", "card", "unfinished", "data", "environment", "seeds",
        "cache",
    }  # fmt: skip


def test_each_number_in_git_is_proved_by_a_stage_or_a_command_or_is_a_time() -> None:
    """A new file of numbers has to be given its proof."""
    told = not_proved(Revision("workspace", None, ROOT))
    times = {path for path, words in told.items() if words == "times and memory of one machine"}
    assert times == {"bench/scaling.json", "bench/tests.json"}
    targets = {path: re.findall(r"`make ([\w-]+)", words) for path, words in told.items() if path not in times}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{target}:" in makefile for named in targets.values() for target in named)
    assert {path: named for path, named in targets.items() if len(named) != 1} == {}


def test_what_no_audit_proves_is_told(project: Project) -> None:
    write_seeds(project)
    (project.folder / "metrics/found.json").write_text("{}", encoding="utf-8")
    status, said, found = audit(project, "workspace", "--quick")
    assert (status, found["findings"]) == (0, []), said
    assert found["not_proved"] == {
        "metrics/found.json": "nothing is known that makes it anew",
        SEEDS: "`make audit SEED=N` runs it anew",
        "presets/record.json": "`make audit PRESET=record` runs it anew",
        "presets/textbook.json": "`make audit PRESET=textbook` runs it anew",
        "workflow/compare/tolerance.json": "`make portability` runs it anew",
    }
    assert f"audit: not proved here: {SEEDS}: `make audit SEED=N`" in said


@pytest.mark.whole
def test_a_seed_run_anew_refutes_its_row(project: Project) -> None:
    write_seeds(project)
    project.commit("Seeds of which one was never run")
    status, said, found = audit(project, "--seed", "2")
    assert status == 1, said
    assert {one["path"]: one["verdict"] for one in found["outputs"]} == {
        f"{SEEDS}: seed 2: {part}": "differs"
        for part in (
            "weights",
            *(f"metrics/{name}.json" for name in ("evaluation", "outliers", "representation", "samples")),
        )
    }


def test_data_replaced_in_the_workspace_with_their_lock_are_found_without_a_cache(project: Project) -> None:
    replaced_weights(project)
    shutil.rmtree(project.folder / ".dvc/cache")
    status, said, found = audit(project, "workspace", "--quick")
    assert status == 1
    assert [one["place"] for one in found["findings"] if one["subject"] == "data/model/encoder.weights.h5"], said
    assert {one["place"] for one in found["findings"]} == {"workspace"}


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("metrics", "--output 'metrics' holds something else than an audit"),
        pytest.param("params.yaml/it", "could not be audited", marks=pytest.mark.whole),
    ],
)
def test_a_record_replaces_nothing_but_a_record(project: Project, output: str, words: str) -> None:
    before = project.files()
    done = project.run(*AUDIT, "--quick", "--output", output)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert project.files() == before


@pytest.mark.whole
def test_a_pack_that_was_altered_is_found(project: Project) -> None:
    (project.folder / "pack.tar.gz").write_bytes(b"no pack")
    project.commit("A pack")
    status, said, found = audit(project, "--quick", "--pack", "pack.tar.gz")
    assert status == 1
    assert [one["check"] for one in found["findings"]] == ["pack"], said


@pytest.mark.whole
def test_the_pipeline_run_anew_refutes_a_forgery_in_which_everything_agrees(project: Project) -> None:
    """The record of what `baseline` found follows from nothing else in the commit."""
    path = "metrics/baseline.json"
    forge(project, path, moved(project, path, ("linear_probe", "test_accuracy"), 0.01), provenance=True)
    project.commit("A better baseline")
    assert audit(project, "--quick")[0] == 0
    files = project.files()
    status, said, found = audit(project)
    assert status == 1, said
    verdicts = {one["path"]: one["verdict"] for one in found["outputs"]}
    differing = {name for name, verdict in verdicts.items() if verdict == "differs"}
    assert path in differing
    assert differing <= {path, "metrics/provenance/baseline.json"}
    assert verdicts["data/model"] == "identical"
    assert {name for name in project.files() - files if not name.startswith("audits/")} == set()


def test_the_weekly_audit_goes_on_where_one_was_killed_and_finds_the_true_commit_identical(checkout: Project) -> None:
    command = [sys.executable, "-m", "workflow.audit", "HEAD"]
    real = checkout.environment(forks=False)  # whose children are killed with it
    with subprocess.Popen(command, cwd=checkout.folder, env=real, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout
        for line in first.stdout:
            if "Running stage 'check'" in line:
                kill_tree(first.pid)
                break
    (clone,) = checkout.folder.glob("state/audit-*/project")
    assert not (clone / "dvc.lock").exists()
    for path in ("dvc.lock", "metrics", "data", "runs", ".dvc/cache"):  # as if it had come to the last stage
        remove(Project(clone), path)
        copy = shutil.copytree if (checkout.folder / path).is_dir() else shutil.copy
        copy(checkout.folder / path, clone / path)
    without_results(Project(clone), "describe")
    steps = run_steps(checkout, "audit-weekly.yml", "audit", {})
    assert [step.returncode for step in steps] == [0, 0], steps[0].stdout + steps[0].stderr
    assert "Stage 'train' didn't change, skipping" in steps[0].stdout
    assert "Running stage 'describe'" in steps[0].stdout
    assert ": identical. The record" in (checkout.folder / "summary.md").read_text(encoding="utf-8")
    found = annotations(checkout.folder / "audit/audit.json")
    assert found["verdict"] == "identical"
    assert {one["verdict"] for one in found["outputs"]} == {"identical"}
    assert found["run"]["environment"] == "present"
    assert set(found["run"]["stages"]) >= {"train", "evaluate", "describe"}
    assert not list(checkout.folder.glob("state/audit-*"))


def kill_tree(pid: int) -> None:
    """Kills a process and all that it started. It is stopped first, so that it starts no more meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        process.suspend()
        for child in process.children():
            kill_tree(child.pid)
        process.kill()


def test_a_failed_weekly_audit_fails_its_job(checkout: Project) -> None:
    (checkout.folder / "dvc.lock").unlink()
    checkout.commit("No lock")
    steps = run_steps(checkout, "audit-weekly.yml", "audit", {})
    assert steps[0].returncode != 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("workspace",), "the workspace is no commit"),
        (("no-such-tag",), "revision 'no-such-tag'"),
        (("--quick", "--preset", "nothing"), "PRESET = 'nothing'"),
        (("--quick", "--seed", "5"), "SEED = '5'"),
        (("--quick", "--sign", "no.pem"), "SIGN = 'no.pem'"),
        (("workspace", "--quick", "--sign", "no.pem"), "nothing that others could verify"),
        (("--quick", "--pack", "no.tar.gz"), "PACK = 'no.tar.gz'"),
    ],
)
def test_what_cannot_be_audited_is_said(project: Project, options: tuple[str, ...], words: str) -> None:
    status, said, found = audit(project, *options)
    assert status == 2
    assert words in said
    assert "Traceback" not in said
    assert not found


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two private keys, `key.pem` and `other.pem`, and their public ones, `.pub`, by OpenSSL."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("key", "other"):
        for command in (
            ["openssl", "genpkey", "-algorithm", "ed25519", "-out", f"{name}.pem"],
            ["openssl", "pkey", "-in", f"{name}.pem", "-pubout", "-out", f"{name}.pub"],
        ):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def signed(finished: Project, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a signed record in audits/it."""
    project = finished.copy_to(tmp_path_factory.mktemp("signed") / "project")
    status, said, _ = audit(project, "--quick", "--sign", str(keys / "key.pem"))
    assert status == 0, said
    return project


def verify(project: Project, key: Path) -> tuple[int, str]:
    done = project.run(*VERIFY, "audits/it", str(key))
    return done.returncode, done.stdout + done.stderr


def test_a_signed_record_verifies(signed: Project, keys: Path) -> None:
    status, said = verify(signed, keys / "key.pub")
    assert status == 0, said
    assert "the signature is the key's" in said
    assert "not here" not in said
    assert "verdict on the commit: consistent" in said


def test_openssl_verifies_the_signature(signed: Project, keys: Path, tmp_path: Path) -> None:
    """By the bytes that DSSE signs: type and payload, each with its length."""
    envelope = json.loads((signed.folder / "audits/it/audit.dsse.json").read_text(encoding="utf-8"))
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
    assert payload == (signed.folder / "audits/it/audit.json").read_bytes()
    (tmp_path / "bytes").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload))
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys / "key.pub"), "-rawin", "-in", "bytes"]
    done = subprocess.run([*command, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_record_is_what_the_schemas_of_in_toto_and_slsa_say(signed: Project) -> None:
    content = json.loads((signed.folder / "audits/it/audit.json").read_text(encoding="utf-8"))
    statement = json_format.ParseDict(content, Statement())
    assert statement.predicate_type == "https://slsa.dev/provenance/v1"
    json_format.ParseDict(content["predicate"], Provenance())
    for subject in content["subject"]:
        file = signed.folder / subject["name"]
        assert sha256(file.read_bytes()).hexdigest() == subject["digest"]["sha256"], subject["name"]
    names = {subject["name"] for subject in content["subject"]}
    assert {"dvc.lock", "metrics/evaluation.json", "data/model/decoder.weights.h5", "data/export/decoder.onnx"} <= names


@pytest.mark.parametrize(
    ("alter", "key", "words"),
    [
        (lambda _: None, "other.pub", "the signature is not the key's"),
        (
            lambda project: flip(project.folder / "audits/it/audit.dsse.json", 200),
            "key.pub",
            "the signature is not the key's",
        ),
        (
            lambda project: flip(project.folder / "audits/it/audit.json", 200),
            "key.pub",
            "is not the record that was signed",
        ),
        (damaged_weights, "key.pub", "data/model/encoder.weights.h5"),
        (lambda _: None, "key.pem", "holds no public key"),
    ],
)
def test_what_was_altered_after_it_was_signed_is_refused(
    signed: Project, keys: Path, tmp_path: Path, alter: Callable[[Project], object], key: str, words: str
) -> None:
    project = signed.copy_to(tmp_path / "altered")
    alter(project)
    status, said = verify(project, keys / key)
    assert status == 1
    assert words in said
    assert "Traceback" not in said


def test_what_is_not_here_is_told(signed: Project, keys: Path, tmp_path: Path) -> None:
    project = signed.copy_to(tmp_path / "bare")
    shutil.rmtree(project.folder / ".dvc/cache")
    status, said = verify(project, keys / "key.pub")
    assert status == 0
    assert "not here, so not proven" in said
    assert "data/model/encoder.weights.h5" in said


def test_no_record_names_the_machine_or_a_secret(project: Project) -> None:
    secrets = {"XLA_FLAGS": "--xla_dump_to=/home/someone", "AWS_SECRET_ACCESS_KEY": "s3cr3t", "PIP_INDEX_URL": "h0st"}
    done = project.run(*AUDIT, "--quick", "--output", "audits/it", env=secrets)
    assert done.returncode == 0, done.stderr
    host = subprocess.run(["uname", "-n"], capture_output=True, text=True, check=True).stdout.strip()
    for name in ("audit.json", "audit.html"):
        text = (project.folder / "audits/it" / name).read_text(encoding="utf-8")
        assert not [word for word in ("someone", "s3cr3t", "h0st", str(project.folder), f'"{host}"') if word in text]
