"""Writes what the latent explorer of the report shows: decoded points of the leading plane, and real images."""

import base64

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.counts import fitting
from pipeline.errors import StageError
from pipeline.files import atomic, load_arrays, write_json
from pipeline.params.explore import MOST, Explore
from pipeline.params.model import Model
from pipeline.params.threads import Threads
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae.evaluation import Evaluator
from vae.explorer import MEAN_STEP, extent, in_steps, sprite, stratified_choice
from vae.latent_space import principal_plane, square_grid
from vae.mean_image import MeanImages
from vae.near_images import points_near_images

_BATCH = 500
_COLUMNS = 40


def run(
    model: Model,
    explore: Explore,
    threads: Threads,
    validation_set: Input,
    weights: Input,
    folder: Output,
) -> None:
    """Decodes a grid over the plane of the two leading directions of the aggregate posterior, and places images in it.

    Outputs:
        folder: `grid.png`, the decoded points, row by row from the top left; `images.png`, the images, forty in a row,
            which follow from the data alone, so that git keeps them once; and `latents.json`: the latents of each
            decoded point, and of each image its number in the split, class, place in the plane and posterior mean.

    Raises:
        StageError: If there are too few images of a class.
    """
    arrays = load_arrays(validation_set)
    sizes = np.bincount(arrays["labels"])
    fewest = int(sizes.min())
    count = fitting(
        "explore.images",
        explore.images,
        len(sizes) * fewest,
        len(sizes) * (MOST // len(sizes)),
        of="images, as many of each class",
    )
    try:
        chosen = stratified_choice(arrays["labels"], count, np.random.default_rng(explore.seed))
    except ValueError as error:
        raise StageError(f"explore.{error}") from error
    vae = load_vae(model, threads, weights, arrays["images"].shape[1:])
    posterior = Evaluator(vae, _BATCH).encode(arrays["images"])
    plane = principal_plane(posterior.mean, posterior.log_var)
    positions = plane.coordinates(posterior.mean)
    half_side = extent(positions)
    points = points_near_images(
        plane, square_grid(np.linspace(-half_side, half_side, explore.grid_side)), posterior.mean
    )
    decoded = MeanImages(vae).decode(points)
    images = arrays["images"][chosen]
    latents = {
        "explained": round(plane.explained, 4),
        "extent": half_side,
        "origin": plane.origin.round(5).tolist(),
        "axes": plane.axes.round(5).tolist(),
        "grid_side": explore.grid_side,
        "classes": arrays["class_names"].tolist(),
        "columns": _COLUMNS,
        "index": chosen.tolist(),
        "label": arrays["labels"][chosen].tolist(),
        "position": positions[chosen].round(3).ravel().tolist(),
        "mean_step": MEAN_STEP,
        "mean_int16": _text(in_steps(posterior.mean[chosen])),
        "grid_int16": _text(in_steps(points)),
    }
    with atomic(folder) as partial:
        partial.mkdir()
        for name, pictures, columns in (("grid", decoded, explore.grid_side), ("images", images, _COLUMNS)):
            picture = sprite(np.round(pictures * 255).astype(np.uint8), columns)
            Image.fromarray(picture).save(partial / f"{name}.png", format="PNG", optimize=True)
        write_json(partial / "latents.json", latents)


def _text(steps: NDArray[np.int16]) -> str:
    return base64.b64encode(steps.tobytes()).decode()
