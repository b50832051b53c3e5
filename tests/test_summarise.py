"""Stage `summarise`: what it keeps of each image."""

from pathlib import Path

import numpy as np
import pytest

from stages.summarise import _write_per_image


@pytest.mark.parametrize(("greatest", "kind"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_the_place_of_an_image_is_kept_whole(tmp_path: Path, greatest: int, kind: type[np.generic]) -> None:
    values = {
        "index": np.array([0, greatest], np.int64),
        "label": np.zeros(2, np.uint8),
        **{f"gray_{term}_nats": np.ones(2, np.float32) for term in ("reconstruction", "kl")},
    }
    _write_per_image({"validation": values, "test": values}, tmp_path / "per_image.npz")
    with np.load(tmp_path / "per_image.npz") as kept:
        assert kept["index"].dtype == kind
        assert kept["index"].tolist() == [0, greatest] * 2
