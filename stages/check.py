"""Validates the whole of `params.yaml` before any stage that DVC would clear the outputs of.

DVC deletes a stage's outputs before it runs. Every other stage depends on the constant file written
here, so a bad parameter is refused before anything is removed or run again.
"""

from pipeline.errors import StageError
from pipeline.files import atomic
from pipeline.params import PARAMS_FILE, Params
from pipeline.stage import Output
from vae.fashion_mnist import PUBLISHED_VALIDATION_COUNT, SHAPES
from vae.model import architecture_names, build_vae


def run(params: Params, checked: Output) -> None:
    """Refuses bad parameters, each by name, value and expectation; builds the networks to prove theirs.

    Args:
        params: All sections.
        checked: A constant file.

    Raises:
        StageError: If the networks cannot be built from the `model` section.
    """
    model = params.model
    if model.architecture not in architecture_names():
        raise StageError(
            f"{PARAMS_FILE} is refused:\n  model.architecture = {model.architecture!r}: "
            f"it should be one of: {', '.join(architecture_names())}"
        )
    try:
        build_vae(model.architecture, model.latent_dim, model.widths)
    except ValueError as error:
        raise StageError(f"{PARAMS_FILE} is refused:\n  model: {error}") from error
    images = SHAPES["train_images"][0] - PUBLISHED_VALIDATION_COUNT
    if params.train.batch_size > images:
        raise StageError(
            f"{PARAMS_FILE} is refused:\n  train.batch_size = {params.train.batch_size}: "
            f"it should be at most {images}, the training images"
        )
    with atomic(checked) as partial:
        partial.write_text("params.yaml is valid\n", encoding="utf-8")
