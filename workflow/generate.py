"""Draws garments, or reconstructs images, with the exported networks: ONNX Runtime, numpy and Pillow, no TensorFlow.

python -m workflow.generate samples --count 64 --seed 0 --output samples.png
python -m workflow.generate reconstruct bag.png boot.png --output reconstructed
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import StageError
from pipeline.files import atomic, prove
from vae.exported import ExportedVAE

NETWORKS = Path("data/export")

_SIDE = 28
_MOST = 10_000
_MARGIN = 2


def main(arguments: Sequence[str]) -> int:
    """Writes what was asked for.

    Returns:
        Exit status: 0, or 1 with a sentence.
    """
    options = _parser().parse_args(arguments)
    try:
        vae = load(options.networks)
        if options.command == "samples":
            _write_sheet(samples(vae, options.count, options.seed, binary=options.binary), options.output)
        else:
            _write_reconstructions(vae, options.images, options.output)
    except StageError as error:
        print(f"generate: {error}", file=sys.stderr)
        return 1
    print(f"generate: wrote {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.generate", allow_abbrev=False)
    parser.add_argument("--networks", type=Path, default=NETWORKS, metavar="FOLDER", help=f"default: {NETWORKS}")
    commands = parser.add_subparsers(dest="command", required=True)
    drawn = commands.add_parser("samples", help="a sheet of garments drawn from the prior")
    drawn.add_argument("--count", type=_between(1, _MOST), default=64)
    drawn.add_argument("--seed", type=_between(0, 2**31 - 1), default=0, help="equal seeds give equal bytes")
    drawn.add_argument("--binary", action="store_true", help="draw pixels too, instead of showing their probabilities")
    drawn.add_argument("--output", type=Path, required=True, metavar="FILE.png")
    given = commands.add_parser("reconstruct", help="what the model makes of images, 28 x 28 and gray as in the data")
    given.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    given.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    return parser


def _between(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds, for argparse."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} should be a whole number from {least} to {most}")
        return int(text)

    return read


def load(folder: Path) -> ExportedVAE:
    """The exported model of a folder, proven by its own sha256.

    Raises:
        StageError: If a file is missing or not the one that was exported.
    """
    if not folder.is_dir():
        raise StageError(f"{folder} is missing; expected the exported networks: `dvc repro export` makes them")
    prove(folder)
    return ExportedVAE.load({file.stem: file.read_bytes() for file in folder.glob("*.onnx")})


def samples(vae: ExportedVAE, count: int, seed: int, *, binary: bool = False) -> NDArray[np.float32]:
    """Draws of the model, (count, 28, 28) float32: probabilities of pixels, or pixels drawn too, 0 or 1."""
    generator = np.random.default_rng(seed)
    latent = vae.from_noise(generator.standard_normal((count, vae.latent_dim), np.float32))
    if binary:
        return vae.draw(latent, generator.random((count, _SIDE, _SIDE), np.float32))
    return vae.decode(latent)


def _write_sheet(images: NDArray[np.float32], path: Path) -> None:
    """Writes images row by row on one sheet, as nearly square as their count allows."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    cell = _SIDE + _MARGIN
    sheet = np.zeros((rows * cell + _MARGIN, columns * cell + _MARGIN), np.uint8)
    for number, image in enumerate(_as_bytes(images)):
        top, left = (_MARGIN + cell * place for place in divmod(number, columns))
        sheet[top : top + _SIDE, left : left + _SIDE] = image
    with atomic(path) as partial:
        Image.fromarray(sheet).save(partial, format="PNG")


def _write_reconstructions(vae: ExportedVAE, paths: Sequence[Path], folder: Path) -> None:
    """Writes a reconstruction under the name of each image, all or none."""
    names = [path.with_suffix(".png").name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise StageError(f"more than one image would be written as {', '.join(twice)}; give each another name")
    mean, _ = vae.encode(np.stack([_read(path) for path in paths]))
    with atomic(folder) as partial:
        partial.mkdir()
        for name, image in zip(names, _as_bytes(vae.decode(mean)), strict=True):
            Image.fromarray(image).save(partial / name, format="PNG")


def _read(path: Path) -> NDArray[np.float32]:
    """An image as the model takes it, (28, 28) float32 in [0, 1], the garment bright on black."""
    try:
        with Image.open(path) as image:
            if image.mode != "L" or image.size != (_SIDE, _SIDE):
                raise StageError(
                    f"{path} is {image.size[0]} x {image.size[1]} of mode {image.mode}; expected 28 x 28 of mode L, 8 "
                    f"bits of gray, the garment bright on black: resize and convert it first"
                )
            return np.asarray(image, np.float32) / np.float32(255)
    except (OSError, UnidentifiedImageError) as error:
        raise StageError(f"{path} is not readable as an image ({error}); expected a PNG or the like") from error


def _as_bytes(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.round(images * 255).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
