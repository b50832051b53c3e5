"""Fashion-MNIST 3.0.1 through tensorflow-datasets, as uint8 arrays in the upstream order."""

import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.archives import read_fashion_mnist
from pipeline.files import save_arrays, write_metrics
from pipeline.stage import Output
from vae.fashion_mnist import SHA256


def run(raw: Output, metrics: Output) -> None:
    """Fetches the data set from the first source that serves, and proves it.

    Outputs:
        raw: Folder of train_images (60000, 28, 28), train_labels (60000,), test_images (10000, 28, 28) and
            test_labels (10000,), all uint8.
        metrics: JSON of counts, class balance, pixel mean and deviation, and the sha256 of each array.

    Raises:
        StageError: If no source serves; every one tried is listed, with the ways out.
    """
    scratch = raw.with_name(".fetch.partial")
    shutil.rmtree(scratch, ignore_errors=True)  # of a fetch that was killed
    scratch.mkdir(parents=True)
    try:
        arrays = read_fashion_mnist(scratch, say=lambda line: print(line, flush=True))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    save_arrays(raw, arrays)
    write_metrics(metrics, describe(arrays))


def describe(arrays: dict[str, NDArray[np.uint8]]) -> dict[str, Any]:
    """Counts, class balance, pixel mean and deviation (of pixels in [0, 1]), and the proven sha256."""
    return {
        "sha256": SHA256,
        **{
            split: {
                "count": len(arrays[f"{split}_images"]),
                "per_class": np.bincount(arrays[f"{split}_labels"]).tolist(),
                "pixel_mean": arrays[f"{split}_images"].mean() / 255,
                "pixel_deviation": arrays[f"{split}_images"].std() / 255,
            }
            for split in ("train", "test")
        },
    }
