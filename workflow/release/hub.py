"""What Hugging Face's hub takes, as a folder: card, networks, weights, an example, and their proofs."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML
from safetensors.numpy import save

from pipeline.errors import StageError
from pipeline.files import files_of, sha256_file, write_json
from workflow.history.revisions import Revision
from workflow.release.pack import cache_folder, held_objects, place

if TYPE_CHECKING:
    from model_signing.signing import Config

SIGNATURE = "model.sig"

#: Names of data sets on the hub, by ours; the hub has no others under a name that their makers gave.
_ON_THE_HUB = {"fashion_mnist": "zalando-datasets/fashion_mnist", "mnist": "ylecun/mnist"}

_WEIGHTS = ".weights.h5"

_HEAD = """\
# fashion-vae {version}

![Images that the model draws](samples.png)

A variational autoencoder of {title}.

`python example.py` draws ten images into `drawn.png`; it needs `onnxruntime`, `numpy` and `pillow`, and no network.

| file | |
|---|---|
| {networks} | the networks as ONNX |
| `model.safetensors` | the weights, each named by its network and its path in that network's `.weights.h5` of Keras |
| `config.json` | what the networks are built of, and the shape of an image |
| `SHA256SUMS` | proves the files: `sha256sum --check SHA256SUMS` |
{signature}
Paths below, as `docs/` and `metrics/`, are of the project's commit `{commit}`.

"""

_SIGNED = f"""\
| `{SIGNATURE}` | the maker's signature of all of them, by OpenSSF model signing |

`pip install model-signing pyopenssl`, and this proves them with the maker's public key:

```sh
model_signing verify key --public_key key.pub --signature {SIGNATURE} --ignore-paths .cache .
```
"""


def signer_of(key: Path) -> "Config":
    """What signs a folder with a private key.

    Raises:
        StageError: If the file has no key that OpenSSF model signing takes.
    """
    from model_signing.signing import Config  # takes a second

    try:
        return Config().use_elliptic_key_signer(private_key=key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StageError(
            f"SIGN = {str(key)!r} holds no private key that signs models ({error}); expected one of an elliptic "
            f"curve, in PEM without a password: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 "
            f"-out key.pem && openssl pkey -in key.pem -pubout -out key.pub"
        ) from error


def write_hub(folder: Path, version: str, revision: Revision, signer: "Config | None") -> None:
    """Writes the folder of a commit, from git and from DVC's cache, whose objects the caller has proven.

    Equal outputs give equal bytes, but of the signature.
    """
    cache = cache_folder()
    held = {path: place(cache, md5) for path, md5 in held_objects(revision, cache).items()}
    networks = {Path(path).name: file for path, file in held.items() if path.endswith(".onnx")}
    folder.mkdir(parents=True)
    for name, file in networks.items():
        shutil.copyfile(file, folder / name)
    (folder / "model.safetensors").write_bytes(save(_arrays(held)))
    shutil.copyfile(Path(__file__).with_name("example.py"), folder / "example.py")
    for path in ("LICENSE", "metrics/figures/samples.png"):
        (folder / Path(path).name).write_bytes(revision.require(path))
    data = revision.read_json("metrics/data.json")
    model = revision.read_yaml("params.yaml")["model"]
    write_json(folder / "config.json", {"model": model, "image_shape": data["image_shape"]})
    head = _HEAD.format(
        version=version,
        title=data["title"],
        networks=", ".join(f"`{name}`" for name in networks),
        signature=_SIGNED if signer else "",
        commit=revision.commit,
    )
    card = f"---\n{_front_matter(revision, data)}---\n\n{head}{revision.require('metrics/model_card.md').decode()}"
    (folder / "README.md").write_text(card, encoding="utf-8")
    sums = "".join(f"{sha256_file(file)}  {file.name}\n" for file in files_of(folder))
    (folder / "SHA256SUMS").write_text(sums, encoding="utf-8")
    if signer:
        signer.sign(folder, folder / SIGNATURE)


def _arrays(held: dict[str, Path]) -> dict[str, NDArray[np.float32]]:
    """Every array of the weights, float32, by network and path in its file, as `decoder/layers/dense/vars/0`."""
    found = {}
    for path, file in held.items():
        if path.endswith(_WEIGHTS):
            network = Path(path).name.removesuffix(_WEIGHTS)
            with h5py.File(file) as content:
                found.update({f"{network}{item.name}": item[()] for item in _datasets(content)})
    return found


def _datasets(group: h5py.Group) -> Iterator[h5py.Dataset]:
    """All below a group; the name of each is its path from the root, with a slash in front."""
    for item in group.values():
        if isinstance(item, h5py.Dataset):
            yield item
        else:
            yield from _datasets(item)


def _front_matter(revision: Revision, data: dict[str, Any]) -> str:
    """The YAML that the hub reads."""
    name = data["name"]
    on_the_hub = _ON_THE_HUB.get(name)
    task = {"type": "unconditional-image-generation", "name": "Image generation"}
    dataset = {"type": on_the_hub or name, "name": data["title"], "split": "test"}
    result = {"task": task, "dataset": dataset, "metrics": list(_metrics(revision))}
    front = {
        "license": "mit",
        "library_name": "onnx",
        "pipeline_tag": task["type"],
        **({"datasets": [on_the_hub]} if on_the_hub else {}),
        "tags": ["variational-autoencoder", "vae", "generative-model", "keras", "safetensors", "dvc"],
        "model-index": [{"name": "fashion-vae", "results": [result]}],
    }
    text = io.StringIO()
    YAML().dump(front, text)
    return text.getvalue()


def _metrics(revision: Revision) -> Iterator[dict[str, Any]]:
    """Test metrics with their standard errors, as entries of a model-index."""
    evaluation = revision.read_json("metrics/evaluation.json")["test"]
    samples = revision.read_json("metrics/samples.json")["test"]["model"]
    for targets in ("binarised", "gray"):
        for kind in ("nll", "elbo"):
            if f"{kind}_nats" in evaluation.get(targets, {}):
                yield _metric(f"{kind}_nats", f"{kind.upper()}, nats per {targets} image", evaluation[targets])
    for kind in ("density", "coverage"):
        yield _metric(kind, f"{kind.capitalize()} of samples", samples)


def _metric(key: str, name: str, found: dict[str, float]) -> dict[str, Any]:
    return {"type": key, "name": name, "value": found[key], "args": {"standard_error": found[f"{key}_se"]}}
