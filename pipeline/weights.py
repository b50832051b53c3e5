"""A model's weights on disk, as `.weights.h5`: its bytes are the same each time, those of `.keras` are not."""

import os
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import StageError
from pipeline.files import atomic, prove, write_manifest
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from vae.model import VAE, build_vae, fix_threads

#: What the HDF5 files may hold besides the weights.
_OWN_BYTES = 2**19


def save_weights(vae: VAE, folder: Path) -> None:
    """Writes the weights of each network, NAME.weights.h5, and their sha256; all or nothing."""
    with atomic(folder) as partial:
        partial.mkdir()
        _require_room(partial, sum(variable.numpy().nbytes for variable in vae.variables))
        for network in vae.networks:
            network.save_weights(partial / f"{network.name}.weights.h5")
        write_manifest(partial)


def _require_room(folder: Path, size: int) -> None:
    """Raises OSError where `size` bytes and HDF5's own do not fit: HDF5 itself crashes on a full disk."""
    probe = folder / "room"
    with probe.open("wb") as handle:
        handle.write(bytes(size + _OWN_BYTES))
        handle.flush()
        os.fsync(handle.fileno())
    probe.unlink()


def load_vae(model: Model, threads: Threads, folder: Path, image_shape: tuple[int, int]) -> VAE:
    """Builds the networks that the parameters describe, with saved weights, on fixed numbers of threads.

    `image_shape` are the rows and columns of an image. Call it before TensorFlow's first operation, as threads cannot
    be fixed after that.

    Raises:
        StageError: As `load_weights`.
    """
    fix_threads(**threads.model_dump())
    vae = build_vae(**model.networks, image_shape=image_shape)
    load_weights(vae, folder)
    return vae


def load_weights(vae: VAE, folder: Path) -> None:
    """Puts saved weights into `vae`, in place.

    Raises:
        StageError: If a file is missing, is not the one that was written, or has no weights of these networks.
    """
    prove(folder)
    for network in vae.networks:
        file = folder / f"{network.name}.weights.h5"
        try:
            _require_float32(file)
            network.load_weights(file)
        except (OSError, ValueError, TypeError, LookupError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise StageError(
                f"{file} has no weights of the {network.name} that the parameters describe ({reason}). "
                f"Remove {folder} and run `dvc repro`"
            ) from error


def _require_float32(file: Path) -> None:
    """Raises ValueError where an array is of another type, which Keras would cast."""

    def require(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype != np.float32:
            raise ValueError(f"{name} is {item.dtype}, expected float32")

    with h5py.File(file) as content:
        content.visititems(require)
