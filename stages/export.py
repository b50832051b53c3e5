"""Writes the networks as ONNX for use without TensorFlow, and proves that they compute what Keras' do."""

from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.counts import fitting
from pipeline.errors import StageError
from pipeline.files import atomic, load_arrays, sha256_file, write_manifest, write_metrics
from pipeline.images import border_gray
from pipeline.params.export import MOST, Export
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae.mean_image import MeanImages
from vae.model import VAE
from vae.onnx_format import OPSET, to_bytes, to_onnx
from vae.onnx_runtime import ExportedVAE

#: Largest difference of a number from Keras' that rounding explains, as a share of the largest number of its kind:
#: float32 has 24 bits, and hundreds of products are summed in other orders.
PARITY_BOUND = 1e-5

_PACKAGES = ("onnx", "onnxruntime", "tf2onnx")

Array = NDArray[np.float32]


def run(
    model: Model,
    export: Export,
    threads: Threads,
    packages: Input,
    validation_set: Input,
    weights: Input,
    networks: Output,
    metrics: Output,
) -> None:
    """Writes encoder, decoder, mean images and both ways of a learned prior, and how far their numbers are from Keras'.

    Inputs:
        packages: The lock of the packages, which converter and runtime come from: a new one exports anew, and
            does not train anew, as one in numeric.txt would.

    Outputs:
        networks: Folder of NAME.onnx and their sha256.
        metrics: JSON: for each output of a network the largest absolute difference from Keras', but of mean images that
            of nine tenths of the pixels; sizes and sha256 of the files, opset and versions.

    Raises:
        StageError: If a network has an operator that ONNX has not, a difference is beyond rounding, or a version is not
            that of the lock.
    """
    versions = _versions(packages)
    arrays = load_arrays(validation_set)
    count = fitting("export.images", export.images, len(arrays["images"]), MOST)
    images = arrays["images"][:count]
    binarised = np.round(images) if "binarised" not in arrays else arrays["binarised"][:count].astype(np.float32)
    vae = load_vae(model, threads, weights, images.shape[1:])
    grays = np.round(arrays["images"] * 255).astype(np.uint8)
    contents = _contents(vae, border_gray(grays) / 255)
    noise = np.random.default_rng(export.seed).standard_normal((len(images), model.latent_dim), np.float32)
    parity = _parity(vae, ExportedVAE.load(contents), images, binarised, noise)
    with atomic(networks) as partial:
        partial.mkdir()
        for name, content in contents.items():
            (partial / f"{name}.onnx").write_bytes(content)
        write_manifest(partial)
    files = {
        name: {"bytes": len(content), "sha256": sha256_file(networks / f"{name}.onnx")}
        for name, content in contents.items()
    }
    found = {"images": len(images), "largest_absolute_difference": parity, "opset": OPSET}
    write_metrics(metrics, {**found, "files": files, "versions": versions})


def _contents(vae: VAE, border: float) -> dict[str, bytes]:
    """The networks as ONNX, by name.

    Args:
        vae: The model.
        border: Mean gray of the outermost pixels of its images, 0 to 1.

    Raises:
        StageError: If one has an operator that ONNX has not.
    """
    try:
        return {name: to_bytes(network) for name, network in to_onnx(vae, border).items()}
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise StageError(
            f"the networks cannot be exported ({reason}); expected layers whose operators tf2onnx converts: "
            f"CONTRIBUTING.md"
        ) from error


def _versions(lock: Path) -> dict[str, str]:
    """Versions of the converter and the runtime, which have to be those of the lock.

    Raises:
        StageError: If one is not.
    """
    pinned = lock.read_text(encoding="utf-8")
    versions = {name: metadata.version(name) for name in _PACKAGES}
    for name, version in versions.items():
        if f"\n{name}=={version} " not in pinned:
            raise StageError(f"{name} {version} is installed, {lock} states another version; run `make setup`")
    return versions


def _parity(vae: VAE, exported: ExportedVAE, images: Array, binarised: Array, noise: Array) -> dict[str, float]:
    """Largest absolute difference of each output of each network from Keras', given the same inputs.

    Raises:
        StageError: If one is beyond rounding.
    """
    mean, log_var = (np.asarray(output) for output in vae.encoder(images))
    logits = vae.logits(tf.constant(mean), tf.constant(binarised))
    latent = vae.from_noise(tf.constant(noise))
    keras = {"mean": mean, "log_var": log_var, "logits": logits, "latent": latent}
    if vae.prior is not None:
        keras |= dict(zip(("noise", "log_det"), vae.prior.normalise(latent), strict=True))
    keras["mean_image"] = MeanImages(vae).decode(mean)
    theirs = dict(zip(("mean", "log_var"), exported.encode(images), strict=True))
    theirs |= {"logits": exported.logits(mean, binarised), "latent": exported.from_noise(noise)}
    theirs |= dict(zip(("noise", "log_det"), exported.to_noise(np.asarray(latent)), strict=True))
    theirs["mean_image"] = exported.decode(mean)
    differences = {}
    for name, array in ((name, np.asarray(output)) for name, output in keras.items()):
        # A draw within rounding of its probability falls on either side, and moves a few pixels of a mean image.
        held = 0.9 if name == "mean_image" and vae.autoregressive else 1
        differences[name] = float(np.quantile(np.abs(array - theirs[name]), held))
        bound = PARITY_BOUND * max(1.0, float(np.abs(array).max()))
        if not differences[name] <= bound:  # nan is no parity either
            raise StageError(
                f"{name} of the exported networks is up to {differences[name]:g} from Keras', expected at most "
                f"{bound:g}: a layer is converted wrongly; try another layer or, by `make lock`, another tf2onnx"
            )
    return differences
