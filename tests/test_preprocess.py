"""The prepared splits hold the upstream images with their own labels."""

import numpy as np
import pytest
from conftest import Project


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_images_belong_to_their_labels(finished: Project, split: str) -> None:
    raw, prepared = finished.folder / "data/raw", finished.folder / "data/prepared" / split
    upstream = "test" if split == "test" else "train"
    index, labels, images = (np.load(prepared / f"{name}.npy") for name in ("index", "labels", "images"))
    np.testing.assert_array_equal(labels, np.load(raw / f"{upstream}_labels.npy")[index])
    expected = np.load(raw / f"{upstream}_images.npy")[index].astype(np.float64) / 255
    np.testing.assert_allclose(images, expected, rtol=1e-6)
