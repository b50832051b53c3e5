"""Weights on disk: the same bytes each time, the same values back, and a sentence where the disk is full."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import ROOT, Project
from test_files import prove_again

from pipeline.errors import StageError
from pipeline.weights import load_weights, save_weights
from vae.model import VAE, build_vae

#: Saves weights where no file may be larger than 100 kB.
SAVES = """
import resource, sys
from pathlib import Path
from pipeline.weights import save_weights
from vae.model import build_vae
vae = build_vae("textbook", 2, (32, 64, 16), (28, 28))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_weights(vae, Path(sys.argv[1]))
except OSError as error:
    print("refused:", error.strerror)
"""

#: Saves the weights of one seed.
SAVES_SEEDED = """
import sys
from pathlib import Path
import keras
from pipeline.weights import save_weights
from vae.model import build_vae
keras.utils.set_random_seed(1)
save_weights(build_vae("textbook", 2, (4, 8, 8), (28, 28)), Path(sys.argv[1]))
"""


def vae(seed: int) -> VAE:
    keras.utils.set_random_seed(seed)
    return build_vae("textbook", 2, (4, 8, 8), (28, 28))


def test_loaded_weights_are_the_saved_ones(tmp_path: Path) -> None:
    saved, loaded = vae(1), vae(2)
    save_weights(saved, tmp_path / "model")
    load_weights(loaded, tmp_path / "model")
    for a, b in zip(saved.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_equal_weights_are_equal_bytes_in_every_process(tmp_path: Path) -> None:
    for python, name in (("python", "one"), (sys.executable, "two")):  # a fork, and a process with another hash seed
        assert Project(ROOT).run(python, "-c", SAVES_SEEDED, str(tmp_path / name)).returncode == 0
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_damaged_weights_are_refused_by_name(tmp_path: Path) -> None:
    save_weights(vae(1), tmp_path / "model")
    file = tmp_path / "model" / "decoder.weights.h5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(StageError, match=r"decoder\.weights\.h5 has sha256"):
        load_weights(vae(1), tmp_path / "model")


def other_shapes(file: Path) -> None:
    keras.utils.set_random_seed(1)
    build_vae("textbook", 2, (8, 8, 8), (28, 28)).decoder.save_weights(file)


def other_type(file: Path) -> None:
    with h5py.File(file, "a") as content:
        array = content.pop("layers/dense/vars/0")[...]
        content["layers/dense/vars/0"] = array.astype(np.complex64)


def objects(file: Path) -> None:
    with h5py.File(file, "a") as content:
        shape = content.pop("layers/dense/vars/0").shape
        content["layers/dense/vars/0"] = np.full(shape, b"text", dtype=object)


def outer_file(file: Path) -> None:
    with h5py.File(file, "a") as content:
        shape = content.pop("layers/dense/vars/0").shape
        content.create_dataset("layers/dense/vars/0", shape, "f4", external=[(__file__, 0, 4 * int(np.prod(shape)))])


def empty(file: Path) -> None:
    h5py.File(file, "w").close()


def pickled(file: Path) -> None:
    file.write_bytes(pickle.dumps({"weights": [1.0]}))


def damaged_links(file: Path) -> None:
    """Spoils the tree of names, and leaves the start of the file, its length and its arrays."""
    file.write_bytes(file.read_bytes().replace(b"TREE", b"FREE"))


#: What makes of a file of weights one that is none.
FORGERIES = [other_shapes, other_type, objects, outer_file, empty, pickled, damaged_links]


@pytest.mark.parametrize("forge", FORGERIES)
def test_other_weights_with_a_true_manifest_are_refused_by_name(tmp_path: Path, forge: Callable[[Path], None]) -> None:
    folder = tmp_path / "model"
    save_weights(vae(1), folder)
    forge(folder / "decoder.weights.h5")
    prove_again(folder)
    with pytest.raises(StageError, match=r"decoder\.weights\.h5 has no weights of the decoder .*dvc repro"):
        load_weights(vae(1), folder)


def test_a_full_disk_is_an_error_and_no_crash(tmp_path: Path) -> None:
    """HDF5 itself crashes the process."""
    done = Project(ROOT).run("python", "-c", SAVES, str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "refused: File too large\n"
    assert list(tmp_path.iterdir()) == []
