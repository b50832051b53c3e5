"""Pictures as data URIs: small, and inside the page."""

import base64
import io

from PIL import Image

#: Quality of WebP at which the text of figures stays sharp, at a quarter of the size of their PNG.
_QUALITY = 80


def figure(png: bytes) -> str:
    """A figure, in the smaller of a lossless picture and one of high quality: charts are flat, photographs are not."""
    with Image.open(io.BytesIO(png)) as image:
        shown = image.convert("RGB")
    return _uri(min(_webp(shown, lossless=True), _webp(shown, quality=_QUALITY), key=len))


def sprite(png: bytes) -> str:
    """A sprite of gray pixels, each as it is."""
    with Image.open(io.BytesIO(png)) as image:
        return _uri(_webp(image.convert("L"), lossless=True))


def size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels."""
    with Image.open(io.BytesIO(png)) as image:
        return image.size


def _webp(image: Image.Image, **options: int | bool) -> bytes:
    content = io.BytesIO()
    image.save(content, format="WEBP", method=4, **options)
    return content.getvalue()


def _uri(webp: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
