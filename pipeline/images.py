"""Image files of users as square gray arrays, by Pillow; no TensorFlow.

Gray is computed in integers of 8 bits, so that every machine with the same Pillow gets the same pixels:

- Colours become the luma of ITU-R BT.601, (19595 R + 38470 G + 7471 B + 2^15) >> 16 of the values as stored. Colour
  profiles are ignored.
- Of 16 bits the upper 8 count, v >> 8, as Pillow reads colours of 16 bits.
- Floats count from 0, black, to 1, white.
"""

import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from pipeline.errors import StageError

#: Formats that are tried, whatever the file is called. Others of Pillow's start programs (EPS) or hold no pictures.
FORMATS: Final = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")

#: How Pillow's readers fail on damaged files.
_DAMAGED: Final = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, struct.error)

_BRIGHTEST: Final = 255
_BRIGHTEST_OF_16_BITS: Final = 65535

#: Pixels along each side of a picture on a contact sheet, and between two.
_CELL: Final = 112
_GAP: Final = 8
_LINE: Final = 13

#: What a sheet of classes shows: images of each, classes, and pixels along an image's side if it has fewer.
_IMAGES: Final = 10
_CLASSES: Final = 20
_SHOWN: Final = 56


@dataclass(frozen=True)
class Conversion:
    """How an image of any size becomes a square gray one.

    Attributes:
        side: Width and height of the result in pixels, 4 or more.
        fit: "crop" keeps the middle square, "pad" keeps everything and fills up.
        background: Gray of padding, and behind transparent pixels, 0 to 255. `invert` does not change it.
        invert: Whether v becomes 255 - v.
    """

    side: int
    fit: Literal["crop", "pad"]
    background: int
    invert: bool


def convert(file: BinaryIO, conversion: Conversion) -> tuple[NDArray[np.uint8], list[str]]:
    """Reads an image and makes it square and gray.

    Args:
        file: Opened for reading, at its start.
        conversion: What to make of it.

    Returns:
        (side, side) uint8, and what was done, a few words each, such as "gray from RGB" or "cropped from 640 x 480".

    Raises:
        StageError: If it cannot be taken. The message says why, and leaves the file's name to the caller.
    """
    image, read = open_image(file)
    array, made = to_square(image, conversion)
    return array, [*read, *made]


def open_image(file: BinaryIO) -> tuple[Image.Image, list[str]]:
    """Reads the first page of an image, turned as its EXIF orientation asks, and says what was done.

    Pillow's limit against decompression bombs, `PIL.Image.MAX_IMAGE_PIXELS`, is an error here; no pixel of a larger
    image is read. What Pillow warns of is among the words.

    Raises:
        StageError: If it is empty, too large, damaged or none of `FORMATS`.
    """
    if not file.read(1):
        raise StageError("it is empty; expected an image")
    file.seek(0)
    notes = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image: Image.Image = Image.open(file, formats=FORMATS)
            if (pages := getattr(image, "n_frames", 1)) > 1:
                notes.append(f"first of {pages} pages")
            if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # before TIFF turns itself
                notes.append("turned by EXIF")
            image = ImageOps.exif_transpose(image)
        except UnidentifiedImageError as error:
            raise StageError(f"it is no image of the formats {', '.join(FORMATS)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise StageError(f"it is too large: {error}") from error
        except _DAMAGED as error:
            raise StageError(f"it cannot be read as an image ({error})") from error
    return image, [*notes, *dict.fromkeys(f"Pillow warns: {warning.message}" for warning in warned)]


def to_square(image: Image.Image, conversion: Conversion) -> tuple[NDArray[np.uint8], list[str]]:
    """Makes an image gray, then inverted, then opaque, then square.

    Sizes change by Lanczos' filter, antialiased. Padding that cannot be equal on both sides is wider at the end.

    Returns:
        (side, side) uint8, and what was done, a few words each.

    Raises:
        StageError: If it has values that have no gray.
    """
    eight, notes = _eight_bits(image)
    gray = _gray(eight)
    if conversion.invert:
        gray = ImageOps.invert(gray)
        notes.append("inverted")
    if eight.has_transparency_data and (alpha := eight.convert("RGBA").getchannel("A")).getextrema() != (255, 255):
        opaque = Image.new("L", gray.size, conversion.background)
        opaque.paste(gray, mask=alpha)
        gray = opaque
        notes.append(f"transparent pixels on gray {conversion.background}")
    width, height = gray.size
    if width != height:
        notes.append(f"{'cropped' if conversion.fit == 'crop' else 'padded'} from {width} x {height}")
    elif width != conversion.side:
        notes.append(f"resized from {width} x {height}")
    return np.asarray(_squared(gray, conversion)), notes


def _eight_bits(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """The image with 8 bits a channel, and from what it becomes gray."""
    if image.mode != "F" and not image.mode.startswith("I"):
        colours = {"1": "black and white", "P": "a palette"}.get(image.mode, image.mode)
        return image, [f"gray from {colours}"] if image.mode != "L" else []
    if "transparency" in image.info:
        raise StageError("one of its grays of 16 bits is transparent; expected 8 bits with transparency: convert it")
    values: NDArray[Any] = np.asarray(image)
    least, most = values.min(), values.max()
    highest = 1 if image.mode == "F" else _BRIGHTEST_OF_16_BITS
    if not (least >= 0 and most <= highest):  # also of nan
        raise StageError(f"its values go from {least} to {most}; expected 0, black, to {highest}, white: rescale them")
    if image.mode == "F":
        return Image.fromarray(np.round(values * _BRIGHTEST).astype(np.uint8)), ["gray from floats"]
    used = int(most).bit_length()
    return Image.fromarray((values >> 8).astype(np.uint8)), [f"upper 8 of 16 bits, of which it uses {used}"]


def _gray(image: Image.Image) -> Image.Image:
    """Luma of an image of 8 bits a channel, whatever its alpha."""
    try:
        return image.convert("RGBA" if image.has_transparency_data else image.mode).convert("L")
    except ValueError as error:
        raise StageError(f"its colours, {image.mode}, have no conversion to gray: convert it to RGB") from error


def _squared(gray: Image.Image, conversion: Conversion) -> Image.Image:
    side = conversion.side
    if conversion.fit == "crop":
        return ImageOps.fit(gray, (side, side), Image.Resampling.LANCZOS)
    width, height = (max(1, round(side * length / max(gray.size))) for length in gray.size)  # ImageOps.pad: or 0
    square = Image.new("L", (side, side), conversion.background)
    square.paste(gray.resize((width, height), Image.Resampling.LANCZOS), ((side - width) // 2, (side - height) // 2))
    return square


def border_gray(images: NDArray[np.uint8]) -> float:
    """Mean gray of the outermost pixels of images, (..., height, width) uint8; 0 to 255."""
    inside = np.zeros(images.shape[-2:], bool)
    inside[1:-1, 1:-1] = True
    return float(images[..., ~inside].mean())


def looks_inverted(image: NDArray[np.uint8], border: float) -> bool:
    """Judges whether an image is dark where the data is bright.

    It looks at borders, where there is background rather than an object. An image looks inverted if the border of its
    inverse is closer to the data's, by more than a quarter of 255. Data with borders of middle gray finds none.

    Args:
        image: (height, width) uint8.
        border: `border_gray` of the data.
    """
    own = border_gray(image)
    return abs(own - border) - abs(_BRIGHTEST - own - border) > _BRIGHTEST / 4


def contact_sheet(originals: Mapping[str, Image.Image], conversion: Conversion) -> Image.Image:
    """Draws originals beside what the conversion makes of them, and what it would with each option changed.

    Args:
        originals: Images of `open_image` by name, a row each.
        conversion: The options as they are set; their values stand above the second column, a changed one above each
            other column.

    Returns:
        An image of mode RGB.
    """
    side, background = conversion.side, conversion.background
    shown = (
        conversion,
        replace(conversion, side=side * 2 if side <= 256 else side // 2),
        replace(conversion, fit="pad" if conversion.fit == "crop" else "crop"),
        replace(conversion, background=0 if background > _BRIGHTEST // 2 else _BRIGHTEST),
        replace(conversion, invert=not conversion.invert),
    )
    step, head, row = _CELL + _GAP, _GAP + 5 * _LINE, _CELL + _GAP + _LINE
    sheet = Image.new("RGB", (_GAP + step * (1 + len(shown)), head + row * len(originals)), "lightgray")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for column, title in enumerate(("original", *(_title(changed, conversion) for changed in shown))):
        draw.multiline_text((_GAP + step * column, _GAP), title, "black", font, spacing=1)
    for number, (name, image) in enumerate(originals.items()):
        top = head + row * number
        draw.text((_GAP, top), name.encode("ascii", "replace"), "black", font)
        original = ImageOps.contain(_eight_bits(image)[0].convert("RGBA"), (_CELL, _CELL))
        sheet.paste(original, (_GAP, top + _LINE), original)
        for column, changed in enumerate(shown, 1):
            square = Image.fromarray(to_square(image, changed)[0]).resize((_CELL, _CELL), Image.Resampling.NEAREST)
            sheet.paste(square, (_GAP + step * column, top + _LINE))
    return sheet


def class_sheet(images: NDArray[np.uint8], labels: NDArray[np.uint8], classes: Sequence[str]) -> Image.Image:
    """Draws the first 10 images of each of the first 20 classes, a row each, below the name of the class.

    Args:
        images: (count, rows, columns) uint8.
        labels: (count,) uint8, indices of `classes`.
        classes: Names of the classes.

    Returns:
        An image of mode L.
    """
    times = max(1, _SHOWN // max(images.shape[1:]))
    height, width = (times * pixels for pixels in images.shape[1:])
    shown = classes[:_CLASSES]
    step, row = width + _GAP, _LINE + height + _GAP
    sheet = Image.new("L", (_GAP + step * _IMAGES, _GAP + row * len(shown)), 211)  # lightgray
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for label, name in enumerate(shown):
        top = _GAP + row * label
        draw.text((_GAP, top), name.encode("ascii", "replace"), 0, font)
        for column, index in enumerate(np.flatnonzero(labels == label)[:_IMAGES]):
            large = images[index].repeat(times, axis=0).repeat(times, axis=1)
            sheet.paste(Image.fromarray(large), (_GAP + step * column, top + _LINE))
    return sheet


def _title(changed: Conversion, conversion: Conversion) -> str:
    """Options as `params.yaml` has them: the one that is changed, or all."""
    return "\n".join(
        f"{name}: {str(value).lower()}"
        for name, value in asdict(changed).items()
        if changed is conversion or value != getattr(conversion, name)
    )
