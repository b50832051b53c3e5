"""Validates the whole of `params.yaml`, and says what the code of each stage is, before any other stage runs.

DVC deletes a stage's outputs before it runs. Every other stage depends on its digest in the file written here, so a
bad parameter is refused before anything is removed or run again, and a stage whose code changed runs again.
"""

import hashlib
import json
import os
import pkgutil
from pathlib import Path

from pipeline.code import code_digests, code_of
from pipeline.errors import StageError
from pipeline.files import atomic, write_json
from pipeline.params.model import ARCHITECTURES, PRIORS
from pipeline.params.section import PARAMS_FILE
from pipeline.params.whole import Params
from pipeline.stage import Output
from pipeline.surroundings import no_home
from vae.fashion_mnist import PUBLISHED_VALIDATION_COUNT, SHAPES

#: Digest of the networks that were last built.
PROVED = Path("state/proved")


def run(params: Params, code: Output) -> None:
    """Refuses bad parameters, each by name, value and expectation; builds the networks to prove theirs.

    Args:
        params: All sections.
        code: JSON of the digest of each stage's code.

    Raises:
        StageError: If one is refused, the networks cannot be built, or TF_CONFIG names other workers.
    """
    model = params.model
    for key, package in (("architecture", ARCHITECTURES), ("prior", PRIORS)):
        names = sorted(module.name for module in pkgutil.iter_modules([package.replace(".", "/")]))
        if getattr(model, key) not in names:
            raise StageError(
                f"{PARAMS_FILE} is refused:\n  model.{key} = {getattr(model, key)!r}: "
                f"it should be one of: {', '.join(names)}"
            )
    if model.jit_compile and params.threads.op_determinism:
        raise StageError(
            f"{PARAMS_FILE} is refused:\n  model.jit_compile = True with threads.op_determinism = True: TensorFlow's "
            f"switch is for operations that XLA replaces, and Keras drops the compilation silently under it; set one "
            f"of them to false (bytes repeat on the CPU either way)"
        )
    _require_networks(params)
    if os.environ.get("TF_CONFIG"):
        from pipeline.tf_config import named_workers

        try:
            named_workers(params.train.workers)
        except ValueError as error:
            raise StageError(str(error)) from error
    if model.autoregressive_units and params.train.targets != "binarised":
        raise StageError(
            f"{PARAMS_FILE} is refused:\n  train.targets = {params.train.targets!r} with model.autoregressive_units = "
            f"{model.autoregressive_units}: an autoregressive decoder predicts pixels from binary ones, so it should "
            f"be 'binarised'"
        )
    _require_shares(params)
    images = SHAPES["train_images"][0] - PUBLISHED_VALIDATION_COUNT
    if params.train.batch_size > images:
        raise StageError(
            f"{PARAMS_FILE} is refused:\n  train.batch_size = {params.train.batch_size}: "
            f"it should be at most {images}, the training images"
        )
    stages = sorted({module.name for module in pkgutil.iter_modules(["stages"])} - {"__main__", "check"})
    write_json(code, code_digests(stages, model.model_dump()))


def _require_networks(params: Params) -> None:
    """Refuses networks that cannot be built. TensorFlow is imported only if these, of this code, were never built."""
    causes = [params.model.networks, code_of("check", params.named_modules)]
    proof = hashlib.sha256(json.dumps(causes, sort_keys=True).encode()).hexdigest()
    if PROVED.is_file() and PROVED.read_text(encoding="utf-8") == proof:
        return
    with no_home():
        from vae.model import build_vae

    try:
        build_vae(**params.model.networks)
    except ValueError as error:
        raise StageError(f"{PARAMS_FILE} is refused:\n  model: {error}") from error
    PROVED.parent.mkdir(exist_ok=True)
    with atomic(PROVED) as partial:
        partial.write_text(proof, encoding="utf-8")


def _require_shares(params: Params) -> None:
    """Refuses workers that cannot share a batch, or the step that XLA compiles as one, without them."""
    workers = params.train.workers
    if params.train.batch_size % workers:
        raise StageError(
            f"{PARAMS_FILE} is refused:\n  train.batch_size = {params.train.batch_size} with train.workers = "
            f"{workers}: it should be a multiple of the workers, which take equal shares of it"
        )
    if workers > 1 and params.model.jit_compile:
        raise StageError(
            f"{PARAMS_FILE} is refused:\n  model.jit_compile = True with train.workers = {workers}: XLA cannot compile "
            f"the exchange of gradients between processes; it should be false"
        )
