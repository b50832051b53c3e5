"""The page of the bench, made of its figures."""

from collections.abc import Mapping
from typing import Any

#: What is timed for images per second, and what the page calls it.
_RATES = {
    "keras_1": "textbook model, Keras `fit`, `steps_per_execution=1`",
    "keras_50": "textbook model, Keras `fit`, `steps_per_execution=50`",
    "torch": "textbook model, PyTorch eager",
    "default": "default model, this project",
}


def page(results: Mapping[str, Any]) -> str:
    """`bench/README.md` of the figures of `bench/results.json`."""
    spreads = results["spreads"]
    rates = [
        f"| {text} | {_spread(results['images_per_second'][name], '{:,.0f}')} |"
        for name, text in _RATES.items()
        if name in results["images_per_second"]
    ]
    curve = [
        f"| {goal} | {run['seconds']:.0f} | {run['epochs']} | {run['nll_nats']:.2f} | {run['nll_samples']} |"
        for goal, run in sorted(results["runs"].items(), key=lambda item: int(item[0]))
    ]
    return "\n".join(
        [
            "# Bench",
            "",
            "Written by `make bench`, not by hand; the figures with all digits are in [results.json](results.json).",
            f"{results['processor']}, {results['instruction_set']}, {results['threads']} threads. Programs ran",
            f"in turn, each in a process of its own, {results['rounds']} rounds: median (lowest to highest).",
            "",
            "| training | images per second |",
            "|---|---|",
            *rates,
            "",
            "Keras without `jit_compile`, as XLA's convolutions are slow on the CPU. PyTorch is optional:",
            "`make bench TORCH=1` installs the lock requirements/torch.txt into `.venv-torch`, 210 MiB of downloads,",
            "on Linux x86-64 with Python 3.11, where pip knows an index, or a folder by `PIP_FIND_LINKS`, with",
            "PyTorch's CPU build.",
            "",
            "| figure | value |",
            "|---|---|",
            "| textbook model's training time, the faster way of `fit`, without validation, s "
            f"| {_spread(spreads['textbook_seconds'], '{:.0f}')} |",
            "| default until its gray validation loss is what the textbook's ends with "
            f"({results['textbook_gray_validation_loss']:.2f}), compilation and validations counted, s "
            f"| {_spread(spreads['seconds_to_textbook'], '{:.1f}')} |",
            f"| the first over the second | {_spread(spreads['time_to_textbook_ratio'], '{:.1f}')} |",
            f"| peak of float32 matrix products, GFLOP/s | {_spread(spreads['matmul_peak_gflops'], '{:.0f}')} |",
            "| matrix products of the default's training, while it takes one draw an image, share of that peak "
            f"| {_spread(spreads['matmul_share'], '{:.2f}')} |",
            "| likelihood of 10 000 images by 5000 draws of each, at the rate of 100 of each, by the default, whose "
            f"decoder takes {results['decoder_operations'] / 1e6:.2f} MFLOP a draw, s "
            f"| {_spread(spreads['likelihood_seconds'], '{:.0f}')} |",
            "| matrix products of these draws, share of that peak; what is the same for all draws of an image is "
            f"counted for each | {_spread(spreads['likelihood_share'], '{:.2f}')} |",
            f"| default's whole training stage, s | {results['train_seconds']:.0f} |",
            f"| its peak memory, MiB | {results['peak_memory_mib']:.0f} |",
            "",
            "The default trained for a given time, the phases of its recipe in proportion. Seconds are those of the",
            "whole train stage; NLL of all validation images.",
            "",
            "| seconds asked | seconds | epochs | validation NLL, nats | draws K |",
            "|---|---|---|---|---|",
            *curve,
            "",
        ]
    )


def _spread(values: Mapping[str, float], form: str) -> str:
    median, lowest, highest = (form.format(values[name]) for name in ("median", "lowest", "highest"))
    return f"{median} ({lowest} to {highest})"
