"""Validates the whole of `params.yaml` before any stage that DVC would clear the outputs of.

DVC deletes a stage's outputs before it runs. Every other stage depends on the constant file written
here, so a bad parameter is refused before anything is removed or run again.
"""

from pipeline.errors import StageError
from pipeline.files import atomic
from pipeline.params.section import PARAMS_FILE
from pipeline.params.whole import Params
from pipeline.stage import Output
from vae.fashion_mnist import PUBLISHED_VALIDATION_COUNT, SHAPES
from vae.model import architecture_names, build_vae, prior_names
from vae.workers import named_workers


def run(params: Params, checked: Output) -> None:
    """Refuses bad parameters, each by name, value and expectation; builds the networks to prove theirs.

    Args:
        params: All sections.
        checked: A constant file.

    Raises:
        StageError: If one is refused, the networks cannot be built, or TF_CONFIG names other workers.
    """
    model = params.model
    for key, names in (("architecture", architecture_names()), ("prior", prior_names())):
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
    try:
        named_workers(params.train.workers)
    except ValueError as error:
        raise StageError(str(error)) from error
    try:
        vae = build_vae(**model.networks)
    except ValueError as error:
        raise StageError(f"{PARAMS_FILE} is refused:\n  model: {error}") from error
    if vae.autoregressive and params.train.targets != "binarised":
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
    with atomic(checked) as partial:
        partial.write_text("params.yaml is valid\n", encoding="utf-8")


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
