"""Pictures as data URIs: small, and inside the page."""

import base64
import io

from PIL import Image

#: Quality of WebP at which text in figures stays sharp, at a quarter of the size of their PNG.
_QUALITY = 60

#: Pixels across; figures are wider than any column that they are shown in.
_WIDEST = 1200


def figure(png: bytes) -> str:
    """A figure, reduced to what a page shows."""
    with Image.open(io.BytesIO(png)) as image:
        shown = image.convert("RGB")
    shown.thumbnail((_WIDEST, shown.height))
    return _uri(shown, quality=_QUALITY)


def sprite(png: bytes) -> str:
    """A sprite, pixel for pixel."""
    with Image.open(io.BytesIO(png)) as image:
        return _uri(image.convert("L"), lossless=True)


def _uri(image: Image.Image, **options: int | bool) -> str:
    content = io.BytesIO()
    image.save(content, format="WEBP", method=6, **options)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
