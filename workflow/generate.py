"""Draws images, or reconstructs given ones, with the exported networks: ONNX Runtime, numpy and Pillow, no TensorFlow.

python -m workflow.generate samples --count 64 --seed 0 --output samples.png
python -m workflow.generate reconstruct bag.png boot.png --output reconstructed
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.errors import StageError
from pipeline.files import atomic, prove
from pipeline.images import Conversion, looks_inverted, open_image, to_square
from vae.explorer import sprite
from vae.onnx_runtime import ExportedVAE
from workflow.command import end, require_folder_of

EXPORT = Path("data/export")

_MOST = 10_000
_MARGIN = 2

#: Images of one call of the networks; changes memory only.
_BATCH = 500


def main(arguments: Sequence[str]) -> int:
    """Writes the pictures that were asked for.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If there is no model, or an image or a place does not serve.
    """
    options = _parser().parse_args(arguments)
    if options.command == "samples" and options.output:
        require_folder_of(options.output)
    make = _drawn_pictures if options.command == "samples" else _reconstructed_pictures
    pictures = make(load(options.export), options)
    for path in filter(Path.is_dir, pictures):
        raise StageError(f"{path} is a folder; expected the name of a picture to be written")
    for path, picture in pictures.items():
        with atomic(path) as partial:
            Image.fromarray(picture).save(partial, format="PNG")
    print(f"generate: wrote {options.folder or options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.generate", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    drawn = commands.add_parser("samples", help="a sheet of images drawn from the prior")
    drawn.add_argument("--count", type=_between(1, _MOST), default=64)
    drawn.add_argument("--seed", type=_between(0, 2**31 - 1), default=0, help="equal seeds give equal bytes")
    drawn.add_argument("--binary", action="store_true", help="draw pixels too, instead of showing their probabilities")
    place = drawn.add_mutually_exclusive_group(required=True)
    place.add_argument("--output", type=_png, metavar="FILE.png", help="one sheet")
    place.add_argument("--folder", type=Path, help="a file for each, 0000.png and so on")
    given = commands.add_parser("reconstruct", help="what the model makes of images of any size and colours")
    given.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    given.add_argument("--fit", choices=("crop", "pad"), default="pad", help="how they become square; default: pad")
    given.add_argument("--background", type=_between(0, 255), default=0, help="gray of padding and behind transparency")
    given.add_argument("--invert", action="store_true", help="make dark bright, for images that are dark on bright")
    given.add_argument("--output", dest="folder", type=Path, required=True, metavar="FOLDER")
    for command in (drawn, given):
        command.add_argument("--export", type=Path, default=EXPORT, metavar="FOLDER", help=f"default: {EXPORT}")
    return parser


def _between(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds, for argparse."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} should be a whole number from {least} to {most}")
        return int(text)

    return read


def _png(text: str) -> Path:
    """Reads the name of a picture, for argparse."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"{text!r} should end in .png, as what is written is a PNG")
    return path


def load(folder: Path) -> ExportedVAE:
    """The exported model of a folder, which its manifest proves.

    Raises:
        StageError: If a file is missing or not the one that was exported.
    """
    missing = [name for name in ("encoder.onnx", "decoder.onnx") if not (folder / name).is_file()]
    if missing:
        raise StageError(
            f"{folder} has no {' and no '.join(missing)}; expected the folder of the exported networks, {EXPORT}: "
            f"`dvc repro export` makes it, or `make pull` brings it"
        )
    prove(folder)
    return ExportedVAE.load({file.stem: file.read_bytes() for file in folder.glob("*.onnx")})


def samples(vae: ExportedVAE, count: int, seed: int, *, binary: bool = False) -> NDArray[np.float32]:
    """Draws of the model, (count, rows, columns) float32: probabilities of pixels, or pixels drawn too, 0 or 1.

    The noise is that of the stages: a seed and count of `figures` or `samples` give the images that they drew.
    """
    generator = np.random.default_rng(seed)
    noise = generator.standard_normal((count, vae.latent_dim), np.float32)
    if not binary:
        return np.concatenate([vae.decode(vae.from_noise(noise[part])) for part in _parts(count)])
    uniform = generator.random((count, *vae.image_shape), np.float32)
    return np.concatenate([vae.draw(vae.from_noise(noise[part]), uniform[part]) for part in _parts(count)])


def reconstructions(vae: ExportedVAE, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probability of each pixel given the mean of q(z|x), as evaluation shows them.

    Both (count, rows, columns) float32.
    """
    return np.concatenate([vae.decode(vae.encode(images[part])[0]) for part in _parts(len(images))])


def _parts(count: int) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, count, _BATCH)]


def _drawn_pictures(vae: ExportedVAE, options: argparse.Namespace) -> dict[Path, NDArray[np.uint8]]:
    """Draws by path: row by row on a sheet as nearly square as their count allows, or a picture of each."""
    drawn = _as_bytes(samples(vae, options.count, options.seed, binary=options.binary))
    if options.folder:
        return {options.folder / f"{number:04}.png": image for number, image in enumerate(drawn)}
    cells = np.pad(drawn, ((0, 0), (_MARGIN, 0), (_MARGIN, 0)))
    return {options.output: np.pad(sprite(cells, math.ceil(math.sqrt(len(cells)))), (0, _MARGIN))}


def _reconstructed_pictures(vae: ExportedVAE, options: argparse.Namespace) -> dict[Path, NDArray[np.uint8]]:
    """Reconstructions by path, each under the name of its image.

    Raises:
        StageError: If an image cannot be taken, or a file is to be written twice or over an image.
    """
    targets = [options.folder / path.with_suffix(".png").name for path in options.images]
    twice = sorted({target.name for target in targets if targets.count(target) > 1})
    if twice:
        raise StageError(f"more than one image would be written as {', '.join(twice)}; give each another name")
    resolved = {target.resolve() for target in targets}
    lost = [str(path) for path in options.images if path.resolve() in resolved]
    if lost:
        raise StageError(
            f"{', '.join(lost)} would be replaced by a reconstruction; name another folder than {options.folder}"
        )
    images = np.stack([_read(path, vae, options) for path in options.images]).astype(np.float32) / np.float32(255)
    return dict(zip(targets, _as_bytes(reconstructions(vae, images)), strict=True))


def _read(path: Path, vae: ExportedVAE, options: argparse.Namespace) -> NDArray[np.uint8]:
    """An image as the model takes it, (rows, columns) uint8. Says what was done to it, and if it looks inverted.

    Raises:
        StageError: If it cannot be taken.
    """
    try:
        with path.open("rb") as file:
            image, read = open_image(file)
        array, made, inner = _fitted(image, vae.image_shape, options)
    except FileNotFoundError as error:
        raise StageError(f"{path} does not exist; expected an image") from error
    except (OSError, StageError) as error:
        raise StageError(f"{path} cannot be taken: {error}") from error
    if read or made:
        print(f"{path}: {', '.join([*read, *made])}")
    if looks_inverted(inner, 255 * vae.border_gray):
        words = "without" if options.invert else "with"
        print(f"generate: {path} looks inverted beside the model's data: try it {words} --invert", file=sys.stderr)
    return array


def _fitted(
    image: Image.Image, shape: tuple[int, int], options: argparse.Namespace
) -> tuple[NDArray[np.uint8], list[str], NDArray[np.uint8]]:
    """An image of a shape, what was done to it, and its inner part, whose border is no padding."""
    rows, columns = shape
    if rows == columns:
        conversion = Conversion(columns, options.fit, options.background, options.invert)
        return *to_square(image, conversion), to_square(image, replace(conversion, fit="crop"))[0]
    if (image.mode, image.size) != ("L", (columns, rows)):
        raise StageError(f"expected {columns} x {rows} of mode L, as the model's data; others are made square only")
    array = np.asarray(ImageOps.invert(image) if options.invert else image)
    return array, ["inverted"] if options.invert else [], array


def _as_bytes(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.round(images * 255).astype(np.uint8)


if __name__ == "__main__":
    end("generate", lambda: main(sys.argv[1:]))
