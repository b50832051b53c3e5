"""Writes the folder `demo`, which any static server serves: the exported networks at work in a browser."""

import base64
import hashlib
import http.client
import io
import json
import os
import sys
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import StageError
from pipeline.files import atomic, sha256_file, write_json
from vae.explorer import sprite
from vae.onnx_runtime import ExportedVAE
from workflow.command import end
from workflow.generate import EXPORT, load
from workflow.history.data_sets import facts_of
from workflow.history.revisions import WORKSPACE, Revision, changed, resolve
from workflow.templates import pages_in

FOLDER = Path("demo")

#: ONNX Runtime for browsers, in the npm registry: its version, and the sha512 that the registry states.
VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
_WANTED = {
    "ort.js": "package/dist/ort.wasm.bundle.min.mjs",  # called .js, which every server knows for a script
    "ort.wasm": "package/dist/ort-wasm-simd-threaded.wasm",
}

_SOURCES = ("demo.js", "model.js", "style.css")
_TIMEOUT_SECONDS = 60
_EXAMPLES = 20
_EXAMPLES_OF_A_CLASS = 2
_TRIED = 32


def main() -> int:
    """Writes the folder.

    Returns:
        Exit status: 0.

    Raises:
        StageError: If the model, the explorer's files or ONNX Runtime for browsers cannot be had.
    """
    build(resolve(WORKSPACE), EXPORT, runtime(Path(sys.prefix) / ARCHIVE), FOLDER)
    print(f"demo: wrote {FOLDER}/; `{sys.executable} -m http.server --directory {FOLDER}` serves it")
    return 0


def runtime(kept: Path) -> dict[str, bytes]:
    """The files of ONNX Runtime for browsers, of its archive at `kept`, which is downloaded if it is not there.

    Raises:
        StageError: If it cannot be downloaded, or has another sha512.
    """
    if kept.is_file():
        content, source = kept.read_bytes(), str(kept)
    else:
        registry = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org")
        source = f"{registry.rstrip('/')}/onnxruntime-web/-/{ARCHIVE}"
        print(f"demo: downloading {source}, 33 MB, once", flush=True)
        try:
            with urllib.request.urlopen(source, timeout=_TIMEOUT_SECONDS) as response:
                content = response.read()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise StageError(
                f"{source} cannot be read ({error}). Run it again with a network, or with NPM_CONFIG_REGISTRY set to "
                f"a mirror's address, or put the file at {kept}"
            ) from error
    found = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != SHA512:
        raise StageError(f"{source} has sha512 {found}, expected {SHA512}: it is damaged, or another file; remove it")
    if not kept.is_file():
        with atomic(kept) as partial:
            partial.write_bytes(content)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {name: archive.extractfile(path) for name, path in _WANTED.items()}
        return {name: member.read() for name, member in members.items() if member}


def build(revision: Revision, export: Path, files: dict[str, bytes], folder: Path) -> None:
    """Writes the demo of the networks in `export`, with the page's facts and examples of `revision`.

    Raises:
        StageError: If the networks are not those of the revision's metrics, or one of its files is missing.
    """
    vae = load(export)
    for name, facts in revision.read_json("metrics/export.json")["files"].items():
        if sha256_file(export / f"{name}.onnx") != facts["sha256"]:
            raise StageError(f"{export}/{name}.onnx is not that of metrics/export.json: run `dvc repro export`")
    examples, names = _examples(revision, vae)
    rows, columns = vae.image_shape
    model = {
        "rows": rows,
        "columns": columns,
        "latents": vae.latent_dim,
        "networks": sorted(file.stem for file in export.glob("*.onnx")),
        "autoregressive": vae.autoregressive,
        "border_gray": vae.border_gray,
        "binarisation": revision.read_yaml("params.yaml")["preprocess"]["binarisation"],
        "directions": directions(vae)[:6],
        "examples": names,
    }
    page = pages_in(Path(__file__).parent).get_template("page.html.jinja")
    sources = [*export.glob("*.onnx"), *(Path(__file__).parent / name for name in _SOURCES)]
    contents = {source.name: source.read_bytes() for source in sources} | files
    megabytes = round(sum(map(len, contents.values())) / 1e6)
    text = page.render(data=facts_of(revision), origin=_origin(), model=model, version=VERSION, megabytes=megabytes)
    with atomic(folder) as partial:
        partial.mkdir()
        for name, content in contents.items():
            (partial / name).write_bytes(content)
        examples.save(partial / "examples.png")
        write_json(partial / "model.json", model)
        (partial / "index.html").write_text(text, encoding="utf-8")


def directions(vae: ExportedVAE) -> list[int]:
    """Coordinates of the prior's noise, those first along which pixels' probabilities change most.

    By how much: their mean absolute difference over two units of noise, with earlier pixels as they were drawn.
    """
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((_TRIED, vae.latent_dim), np.float32)
    images = vae.draw(vae.from_noise(noise), generator.random((_TRIED, *vae.image_shape), np.float32))

    def probabilities(moved: Any) -> Any:
        return 0.5 + 0.5 * np.tanh(vae.logits(vae.from_noise(moved), images) / 2)

    units = np.eye(vae.latent_dim, dtype=np.float32)
    changes = [np.abs(probabilities(noise + unit) - probabilities(noise - unit)).mean() for unit in units]
    return [int(place) for place in np.argsort(changes, kind="stable")[::-1]]


def _examples(revision: Revision, vae: ExportedVAE) -> tuple[Image.Image, list[str]]:
    """Real images side by side, the first of each class of the explorer's, and the class of each."""
    told = json.loads(revision.require("metrics/explorer/latents.json"))
    picture = np.asarray(Image.open(io.BytesIO(revision.require("metrics/explorer/images.png"))).convert("L"))
    rows, columns = vae.image_shape
    labels = np.array(told["label"])
    places = [place for label in np.unique(labels) for place in np.flatnonzero(labels == label)[:_EXAMPLES_OF_A_CLASS]]
    corners = [(place // told["columns"] * rows, place % told["columns"] * columns) for place in places[:_EXAMPLES]]
    cells = np.stack([picture[top : top + rows, left : left + columns] for top, left in corners])
    names = [str(told["classes"][labels[place]]) for place in places[:_EXAMPLES]]
    return Image.fromarray(sprite(cells, len(cells))), names


def _origin() -> str:
    """What the model is of: a commit, or a commit and changes."""
    commit = resolve("HEAD").commit
    return f"commit {commit}{', with results changed since' if changed('dvc.lock', 'metrics', 'params.yaml') else ''}"


if __name__ == "__main__":
    end("demo", main)
