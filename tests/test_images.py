"""Images of users as square gray arrays: pixels by closed forms, and what is refused."""

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.errors import StageError
from pipeline.images import (
    Conversion,
    border_gray,
    class_sheet,
    contact_sheet,
    convert,
    looks_inverted,
    open_image,
    to_square,
)

PLAIN = Conversion(side=20, fit="crop", background=0, invert=False)
PADDED = Conversion(side=20, fit="pad", background=7, invert=False)


def encoded(image: Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def constant(image: Image.Image, conversion: Conversion = PLAIN) -> int:
    """The gray of all pixels of a converted image, which has one."""
    (gray,) = np.unique(to_square(image, conversion)[0])
    return int(gray)


def left_half_black(width: int, height: int) -> Image.Image:
    image = Image.new("L", (width, height), 255)
    image.paste(0, (0, 0, width // 2, height))
    return image


@pytest.mark.parametrize(
    ("colour", "gray"),  # 0.299 R + 0.587 G + 0.114 B, by hand
    [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((10, 200, 30), 124), ((90, 90, 90), 90)],
)
def test_colours_become_luma_whatever_holds_them(colour: tuple[int, int, int], gray: int) -> None:
    image = Image.new("RGB", (20, 20), colour)
    assert constant(image) == constant(image.convert("RGBA")) == gray
    assert constant(image.convert("P", palette=Image.Palette.ADAPTIVE)) == gray
    for kind in ("PNG", "BMP", "TIFF", "WEBP"):
        array, notes = convert(encoded(image, kind, lossless=True), PLAIN)
        assert (array.shape, array.dtype) == ((20, 20), np.uint8)
        assert (array == gray).all()
        assert notes == ["gray from RGB"]


def test_an_image_that_is_as_it_should_be_stays_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20), dtype=np.uint8)
    for fit in ("crop", "pad"):
        array, notes = convert(encoded(Image.fromarray(pixels), "PNG"), Conversion(20, fit, 9, invert=False))
        np.testing.assert_array_equal(array, pixels)
        assert notes == []
    array, notes = convert(encoded(Image.fromarray(pixels), "PNG"), Conversion(20, "crop", 9, invert=True))
    np.testing.assert_array_equal(array, 255 - pixels)
    assert notes == ["inverted"]


def test_one_bit_is_black_and_white() -> None:
    array, notes = convert(encoded(left_half_black(20, 20).convert("1"), "PNG"), PLAIN)
    np.testing.assert_array_equal(array, np.repeat([[0, 255]], 10, axis=1).repeat(20, axis=0))
    assert notes == ["gray from black and white"]


def test_cmyk_counts_ink() -> None:
    for ink, gray in ((0, 255), (255, 0)):
        array, notes = convert(encoded(Image.new("CMYK", (20, 20), (0, 0, 0, ink)), "JPEG"), PLAIN)
        assert (array == gray).all()
        assert notes == ["gray from CMYK"]


@pytest.mark.parametrize(
    ("invert", "background", "gray"),  # (200 or 55) * 128 / 255 + background * 127 / 255
    [(False, 0, 100), (False, 255, 227), (True, 0, 28), (True, 255, 155)],
)
def test_half_transparent_pixels_mix_with_the_background_which_is_not_inverted(
    invert: bool, background: int, gray: int
) -> None:
    conversion = Conversion(20, "crop", background, invert)
    for mode, colour in (("LA", (200, 128)), ("RGBA", (200, 200, 200, 128))):
        image = Image.new(mode, (20, 20), colour)
        assert constant(image, conversion) == gray
        assert f"transparent pixels on gray {background}" in to_square(image, conversion)[1]


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_colour_that_stands_for_transparency_is_background(mode: str) -> None:
    image = left_half_black(20, 20).convert(mode)
    transparent = (0, 0, 0) if mode == "RGB" else image.getpixel((0, 0))
    array, notes = convert(encoded(image, "PNG", transparency=transparent), Conversion(20, "crop", 99, invert=False))
    np.testing.assert_array_equal(array, np.repeat([[99, 255]], 10, axis=1).repeat(20, axis=0))
    assert notes[-1] == "transparent pixels on gray 99"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_of_16_bits_the_upper_8_count(kind: str) -> None:
    values = np.arange(400, dtype=np.uint16).reshape(20, 20) * 10
    array, notes = convert(encoded(Image.fromarray(values), kind), PLAIN)
    np.testing.assert_array_equal(array, np.floor(values / 256))
    assert notes == ["upper 8 of 16 bits, of which it uses 12"]  # 3990 < 2^12
    replicated = Image.fromarray(np.full((20, 20), 200 * 257, np.uint16))
    assert constant(replicated) == 200
    assert constant(Image.fromarray(np.full((20, 20), 200 * 257, np.int32))) == 200


def test_floats_go_from_black_to_white() -> None:
    values = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20)
    array, notes = convert(encoded(Image.fromarray(values), "TIFF"), PLAIN)
    assert np.abs(array.ravel() - np.linspace(0, 255, 400)).max() < 0.501
    assert notes == ["gray from floats"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.float32(1.5), "go from 1.5 to 1.5; expected 0, black, to 1, white"),
        (np.float32(-0.5), "go from -0.5 to"),
        (np.float32(np.nan), "go from nan to"),
        (np.int32(65536), "go from 65536 to 65536; expected 0, black, to 65535"),
        (np.int32(-1), "go from -1 to"),
    ],
)
def test_values_that_have_no_gray_are_refused(values: Any, said: str) -> None:
    with pytest.raises(StageError, match=said):
        convert(encoded(Image.fromarray(np.full((20, 20), values)), "TIFF"), PLAIN)


def test_modes_that_pillow_makes_no_gray_of_are_refused() -> None:
    with pytest.raises(StageError, match="LAB"):
        convert(encoded(Image.new("LAB", (20, 20)), "TIFF"), PLAIN)
    sixteen = Image.fromarray(np.zeros((20, 20), np.uint16))
    with pytest.raises(StageError, match="16 bits is transparent"):
        convert(encoded(sixteen, "PNG", transparency=5), PLAIN)


#: Where black, stored on the left, is to be seen, by orientation (Exif 2.32, tag 274).
SEEN = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_images_are_turned_as_exif_asks(kind: str) -> None:
    for orientation, side in SEEN.items():
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        array, notes = convert(
            encoded(left_half_black(32, 32), kind, exif=exif), Conversion(32, "crop", 0, invert=False)
        )
        halves = {"left": array[:, :16], "right": array[:, 16:], "top": array[:16], "bottom": array[16:]}
        assert min(halves, key=lambda half: halves[half].mean()) == side
        assert ("turned by EXIF" in notes) == (orientation != 1)


def test_damaged_exif_is_said_and_costs_nothing() -> None:
    file = encoded(Image.new("L", (24, 24), 200), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    array, notes = convert(file, PLAIN)
    assert (array == 200).all()
    assert notes[0].startswith("Pillow warns: Corrupt EXIF data")


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PNG", "MPO"])
def test_the_first_page_counts(kind: str) -> None:
    pages = [Image.new("RGB", (24, 24), (gray,) * 3) for gray in (200, 50, 100)]
    array, notes = convert(encoded(pages[0], kind, save_all=True, append_images=pages[1:]), PLAIN)
    assert np.abs(array.astype(int) - 200).max() <= 1  # WebP loses
    assert notes == ["first of 3 pages", "gray from RGB", "resized from 24 x 24"]


def test_cropping_keeps_the_middle_and_padding_everything() -> None:
    middle = Image.new("L", (40, 20), 0)
    middle.paste(200, (10, 0, 30, 20))
    array, notes = to_square(middle, PLAIN)
    assert (array == 200).all()
    assert notes == ["cropped from 40 x 20"]
    for turned in (False, True):
        image = Image.new("L", (20, 40) if turned else (40, 20), 200)
        array, notes = to_square(image, PADDED)
        expected = np.full((20, 20), 7)
        expected[5:15] = 200
        np.testing.assert_array_equal(array, expected.T if turned else expected)
        assert notes == ["padded from 20 x 40" if turned else "padded from 40 x 20"]


def test_padding_that_cannot_be_equal_is_wider_at_the_end_and_no_side_vanishes() -> None:
    array, _ = to_square(Image.new("L", (20, 5), 200), PADDED)
    assert np.flatnonzero(array[:, 0] == 200).tolist() == [7, 8, 9, 10, 11]
    array, _ = to_square(Image.new("L", (1, 1000), 200), PADDED)
    assert (array[:, 9] == 200).all()
    assert (np.delete(array, 9, axis=1) == 7).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (20, 20), (21, 19), (333, 77), (640, 480)])
def test_a_constant_image_stays_constant_in_any_size(size: tuple[int, int]) -> None:
    for gray in (0, 1, 128, 254, 255):
        for fit in ("crop", "pad"):
            assert constant(Image.new("L", size, gray), Conversion(20, fit, gray, invert=False)) == gray


def test_edges_stay_in_their_place_and_fine_patterns_become_gray() -> None:
    array = to_square(left_half_black(160, 160), PLAIN)[0].astype(int)
    assert (array[:, :7] == 0).all()  # Lanczos' filter reaches three pixels
    assert (array[:, 13:] == 255).all()
    assert (np.abs(array + array[:, ::-1] - 255) <= 1).all()
    assert (array[:, 9] < 128).all()
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (80, 40)))
    inner = to_square(stripes, PLAIN)[0][:, 3:-3].astype(int)
    assert np.abs(inner - 127.5).max() < 1  # picking pixels would give 0 or 255


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))


def vast() -> bytes:
    """A PNG of 57 bytes that says of itself that it has 3 600 000 000 pixels."""
    size = (60_000).to_bytes(4, "big")
    chunks = ((b"IHDR", size + size + b"\x08\0\0\0\0"), (b"IDAT", b""), (b"IEND", b""))
    parts = (
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "it is empty"),
    "text": (lambda: b"no image\n" * 99, "it is no image of the formats PNG, JPEG, TIFF, WEBP, BMP"),
    "zeros": (lambda: bytes(999), "it is no image"),
    "GIF": (lambda: encoded(noise(), "GIF").getvalue(), "it is no image"),
    "EPS, for which Pillow starts Ghostscript": (lambda: encoded(noise(), "EPS").getvalue(), "it is no image"),
    "a bomb": (vast, "it is too large: Image size"),
    **{
        f"half a {kind}": (lambda kind=kind: cut(encoded(noise(), kind).getvalue()), "it cannot be read as an image")
        for kind in ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_image_is_refused_with_the_reason(what: str) -> None:
    content, said = REFUSED[what]
    with pytest.raises(StageError, match=said):
        convert(io.BytesIO(content()), PLAIN)


def test_the_limit_of_pixels_is_that_at_which_pillow_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    assert convert(encoded(Image.new("L", (20, 20)), "PNG"), PLAIN)[1] == []
    with pytest.raises(StageError, match=r"too large.* \(420 pixels\)"):
        convert(encoded(Image.new("L", (21, 20)), "PNG"), PLAIN)


def test_the_border_is_one_pixel_wide() -> None:
    images = np.zeros((2, 4, 5), np.uint8)
    images[:, 1:-1, 1:-1] = 255
    assert border_gray(images) == border_gray(images[0]) == 0
    images[0, 0] = 140  # 5 of 14 pixels of one image of two
    assert border_gray(images) == 140 * 5 / 28


@pytest.mark.parametrize(
    ("own", "data", "inverted"),
    [
        (255, 0, True),
        (170, 0, True),
        (100, 0, False),
        (0, 0, False),
        (0, 255, True),
        (255, 255, False),
        (255, 128, False),
        (0, 128, False),
    ],
)
def test_an_image_looks_inverted_if_the_border_of_its_inverse_is_the_datas(own: int, data: int, inverted: bool) -> None:
    image = np.full((28, 28), own, np.uint8)
    image[5:-5, 5:-5] = 255 - own
    assert looks_inverted(image, data) == inverted


def test_the_contact_sheet_shows_what_each_option_does() -> None:
    image = Image.new("LA", (60, 30), (200, 255))
    image.paste((0, 0), (25, 10, 35, 20))
    opened, _ = open_image(encoded(image, "PNG"))
    sheet = contact_sheet({"boots/é\udcff.png": opened, "other": Image.new("L", (9, 9), 60)}, PLAIN)
    assert sheet.mode == "RGB"
    top, step = sheet.height - 2 * 133 + 13, 120
    middle = [sheet.getpixel((8 + step * column + 56, top + 56)) for column in range(1, 6)]
    edge = [sheet.getpixel((8 + step * column + 56, top + 5)) for column in range(1, 6)]
    assert middle == [(gray,) * 3 for gray in (0, 0, 0, 255, 0)]  # transparent: only the background changes it
    assert edge == [(gray,) * 3 for gray in (200, 200, 0, 200, 55)]  # pad shows the background, invert 255 - 200
    assert sheet.getpixel((8 + 56, top + 5)) == (200, 200, 200)
    assert sheet.getpixel((8 + step * 5 + 56, top + 133 + 56)) == (195, 195, 195)


def test_a_sheet_of_classes_shows_the_first_images_of_each() -> None:
    labels = np.arange(66, dtype=np.uint8) % 22  # three of each
    images = np.repeat(np.arange(66, dtype=np.uint8), 64).reshape(66, 8, 8)
    sheet = class_sheet(images, labels, [f"class {label}" for label in range(22)])
    row = 13 + 56 + 8
    assert sheet.size == (8 + 64 * 10, 8 + row * 20)
    for label in (0, 19):
        top = 8 + row * label + 13
        assert [sheet.getpixel((8 + 64 * n + 55, top + 55)) for n in range(4)] == [label, label + 22, label + 44, 211]
    assert sheet.tobytes() == class_sheet(images, labels, [f"class {label}" for label in range(22)]).tobytes()
