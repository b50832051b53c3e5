"""`make bench`: times programs in turn, reads the records of whole runs, and writes the table of both.

Needs the results of `make` in this clone, with their run records, and records of the presets textbook and record. Two
hours; `--full` repeats whole runs.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from dvc.utils.serialize import modify_yaml

from bench.against import against
from bench.curves import EASIER, PUBLISHED, publish_curves, recorded_curves
from bench.figures import printed, publish
from bench.programs import SECONDS
from pipeline.errors import StageError
from pipeline.files import write_json
from pipeline.params.section import PARAMS_FILE
from pipeline.params.whole import load_params
from pipeline.progress import progress
from workflow.command import end
from workflow.history.origin import origin
from workflow.history.presets import METRICS, resolved, run_record
from workflow.history.working_copy import working_copy

RESULTS = Path("bench/results.json")
PAGE = Path("bench/README.md")

#: Rounds, in each of which every program runs once.
ROUNDS = 3

#: Seconds of training of the shorter runs of the default, and of those the ones that are no steps: start and compile.
SHORT_RUNS, STARTING = (60, 240), 10

#: The published VAE's NLL, less what validation images are easier by; and the epochs of the first run that is tried.
PUBLISHED_VAE, TRIED_FROM = PUBLISHED["VAE, N(0, I) prior"] - EASIER, 9

#: Draws of the published protocol for the test images, 5000 of each.
PUBLISHED_DRAWS = 5000 * 10_000

TORCH = Path(".venv-torch/bin/python")
TRAINING_IMAGES = "data/prepared/train/images.npy"

#: Figures of each program, by its name.
Round = dict[str, dict[str, Any]]


def main(arguments: Sequence[str]) -> int:
    """Measures and writes.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If a program fails, a run has no record, or what stands here is not committed.
    """
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--full", action="store_true", help="repeat whole runs instead of reading their records")
    full = parser.parse_args(arguments).full
    curves = recorded_curves()
    results = {**origin(), **measure(full=full)}
    write_json(RESULTS, results)
    publish(PAGE, results)
    publish_curves(curves, results["train_seconds"])
    return 0


def measure(*, full: bool) -> dict[str, Any]:
    """Every figure of the table.

    Raises:
        StageError: If a program fails, or a whole run has no record.
    """
    began = time.monotonic()
    compared = against()
    params = load_params()
    goal = -json.loads(Path("presets/textbook.json").read_text())["metrics"]["validation"]["gray"]["elbo_nats"]
    whole = _run(params.train.epochs) if full else _recorded()
    rounds = _rounds(goal)
    rates = [
        {name: figures["images_per_second"] for name, figures in found.items() if "images_per_second" in figures}
        for found in rounds
    ]
    textbook = _textbook_seconds(rates, full=full)
    spreads = _spreads([_shares(found, seconds) for found, seconds in zip(rounds, textbook, strict=True)])
    runs = {str(seconds): _short_run(seconds, whole) for seconds in SHORT_RUNS} | {"480": whole}
    published = _shortest_run(params.train.epochs)
    return {
        "threads": params.threads.intra_op,
        "full": full,
        "rounds": ROUNDS,
        "bench_seconds": round(time.monotonic() - began),
        **{name: spread["median"] for name, spread in spreads.items()},
        "train_seconds": whole["seconds"],
        "peak_memory_mib": max(run["peak_memory_mib"] for run in runs.values()),
        "nll_at_seconds": {seconds: run["nll_nats"] for seconds, run in runs.items()},
        "operations_per_image": rounds[0]["default"]["operations_per_image"],
        "decoder_operations": rounds[0]["likelihood"]["decoder_operations"],
        "textbook_gray_validation_loss": goal,
        "images_per_second": _spreads(rates),
        "spreads": spreads,
        "runs": runs,
        "published_vae_nll": PUBLISHED_VAE,
        "published_vae_run": published,
        "published_vae_share": published["seconds"] / spreads["textbook_seconds"]["median"],
        **compared,
    }


def _rounds(goal: float) -> list[Round]:
    """Figures of each program in each round."""
    ours = [sys.executable, "-m", "bench.programs"]
    commands = {name: [*ours, name] for name in ("matmul_peak", "keras_1", "keras_50", "default", "likelihood")}
    commands["seconds_to"] = [*ours, "seconds_to", str(goal)]
    if TORCH.is_file():
        options = (load_params().threads.intra_op, resolved("textbook").train.batch_size, SECONDS)
        commands["torch"] = [str(TORCH), "-m", "bench.torch_textbook", TRAINING_IMAGES, *map(str, options)]
    found: list[Round] = [{} for _ in range(ROUNDS)]
    with progress("bench, programs in turn", ROUNDS * len(commands), " programs") as shown:
        for one in found:
            for name, command in commands.items():
                one[name] = printed(command)
                shown.advance(note=name)
    return found


def _textbook_seconds(rates: Sequence[Mapping[str, float]], *, full: bool) -> list[float]:
    """Seconds of the textbook model's training by the faster of the two ways of `fit`, one a round."""
    fastest = max(("keras_1", "keras_50"), key=lambda name: median(rate[name] for rate in rates))
    if full:
        steps = fastest.removeprefix("keras_")
        return [printed([sys.executable, "-m", "bench.programs", "keras_whole", steps])["seconds"]] * ROUNDS
    images = len(np.load(TRAINING_IMAGES, mmap_mode="r")) * resolved("textbook").train.epochs
    return [images / rate[fastest] for rate in rates]


def _shares(found: Round, textbook_seconds: float) -> dict[str, float]:
    """What follows from the figures of one round."""
    peak, ours = found["matmul_peak"]["operations_per_second"], found["seconds_to"]["seconds"]
    default, likelihood = found["default"], found["likelihood"]
    return {
        "matmul_peak_gflops": peak / 1e9,
        "matmul_share": default["images_per_second"] * default["operations_per_image"] / peak,
        "likelihood_share": likelihood["draws_per_second"] * likelihood["operations_per_draw"] / peak,
        "likelihood_seconds": PUBLISHED_DRAWS / likelihood["draws_per_second"],
        "textbook_seconds": textbook_seconds,
        "seconds_to_textbook": ours,
        "time_to_textbook_ratio": textbook_seconds / ours,
    }


def _spreads(rounds: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Median, lowest and highest of each figure over rounds."""
    by_name = {name: [found[name] for found in rounds] for name in rounds[0]}
    return {
        name: {"median": median(values), "lowest": min(values), "highest": max(values)}
        for name, values in by_name.items()
    }


def _recorded() -> dict[str, float]:
    """The whole run of the default whose results stand in the workspace."""
    found = json.loads((METRICS / "evaluation.json").read_text())["validation"]["binarised"]
    nll = {key: found[key] for key in ("nll_nats", "nll_samples")}
    return _figures_of(load_params().train.epochs, run_record("train"), nll)


def _figures_of(epochs: int, record: Mapping[str, Any], nll: Mapping[str, float]) -> dict[str, float]:
    """Figures of a run, from its length, what its stage `train` recorded, and the NLL of its model."""
    return {"epochs": epochs, **{key: record[key] for key in ("seconds", "peak_memory_mib")}, **nll}


def _short_run(seconds: int, whole: Mapping[str, float]) -> dict[str, float]:
    """A run of the default of as many epochs as fit into `seconds` at the pace of a whole one."""
    return _run(max(1, int((seconds - STARTING) * whole["epochs"] / (whole["seconds"] - STARTING))))


def _shortest_run(epochs: int) -> dict[str, float]:
    """The run of the default of fewest epochs, and at most so many, whose NLL is `PUBLISHED_VAE` or less.

    Raises:
        StageError: If there is none.
    """
    for tried in range(TRIED_FROM, epochs + 1):
        run = _run(tried)
        print(f"bench: {tried} epochs end at {run['nll_nats']:.2f} nats, wanted {PUBLISHED_VAE:.2f}", flush=True)
        if run["nll_nats"] <= PUBLISHED_VAE:
            return run
    raise StageError(f"no run of up to {epochs} epochs has a validation NLL of {PUBLISHED_VAE:.2f}, as one should")


def _run(epochs: int) -> dict[str, float]:
    """Trains the default for `epochs`, the phases of its recipe in proportion, as the stage of a working copy."""
    with working_copy() as copy:
        with modify_yaml(str(copy / PARAMS_FILE)) as content:
            train = content["train"]
            share = epochs / train["epochs"]
            train["epochs"] = epochs
            train["kl_warmup_epochs"] *= share
            train["importance_epochs"] = round(train["importance_epochs"] * share)
        for command in (["preprocess"], ["--force", "--no-run-cache", "--single-item", "train"]):
            if subprocess.run(["dvc", "repro", *command], cwd=copy, check=False).returncode:
                raise StageError(f"training for {epochs} epochs failed; its message stands above")
        record = json.loads((copy / "runs/train.json").read_text())
        nll = printed([sys.executable, "-m", "bench.programs", "validation_nll", str(copy / "data/model")])
    return _figures_of(epochs, record, nll)


if __name__ == "__main__":
    end("bench", lambda: main(sys.argv[1:]))
