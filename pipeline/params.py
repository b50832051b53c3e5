"""The sections of `params.yaml`: their keys, types and ranges. This module may reject a value, never change one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.errors import StageError

PARAMS_FILE = Path("params.yaml")

#: What the parser raises for text that is no YAML, or whose tags and values (`!!int x`) it cannot build.
_UNREADABLE = (YAMLError, ValueError, LookupError, ArithmeticError, AttributeError, TypeError, RecursionError)

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """A section of `params.yaml`: frozen, no defaults, strict types, no unknown keys, no nan or infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def _frozen(items: Any) -> tuple[Any, ...]:
    """A YAML list as a tuple, so that nothing can change it; what is no list has no order to keep."""
    if not isinstance(items, list):
        raise PydanticCustomError("list_type", "Input should be a list")
    return tuple(items)


Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], BeforeValidator(_frozen)]
Neighbours = Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], BeforeValidator(_frozen)]
Strengths = Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_frozen)]


class Preprocess(Section):
    """How the 60 000 upstream training images become training and validation images."""

    split: Literal["published", "stratified"]
    seed: Seed  # of the stratified split and of its validation draw; the published split has its own


class Model(Section):
    """The networks: a module of `vae/architectures`, one of `vae/priors`, and what they are built with."""

    architecture: Name
    latent_dim: Annotated[int, Field(ge=1, le=1024)]
    widths: Annotated[Widths, Field(min_length=1)]
    autoregressive_units: Annotated[int, Field(ge=0, le=8192)]  # of a patch's layer that sees earlier pixels; 0: none
    prior: Name
    prior_widths: Widths
    jit_compile: bool  # of training steps and likelihood draws, by XLA

    @property
    def networks(self) -> dict[str, Any]:
        """What the networks are built with: the arguments of `vae.model.build_vae`."""
        return self.model_dump(exclude={"jit_compile"})


class Train(Section):
    """The training recipe."""

    seed: Seed  # of initial weights, order, binarisation and latent noise
    targets: Literal["gray", "binarised"]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=60_000)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    learning_rate_warmup_epochs: Annotated[float, Field(ge=0, le=100_000)]
    schedule: Literal["constant", "cosine"]
    weight_decay: Annotated[float, Field(ge=0, le=10)]  # of kernels, decoupled, times the learning rate
    beta: Annotated[float, Field(ge=0, le=1000)]
    kl_warmup_epochs: Annotated[float, Field(ge=0, le=100_000)]
    kl_warmup_start: Annotated[float, Field(ge=0, le=1)]  # share of beta that the warm-up starts from
    importance_samples: Annotated[int, Field(ge=1, le=1000)]  # draws of q(z|x) per image in the last epochs
    importance_epochs: Annotated[int, Field(ge=0, le=100_000)]  # last epochs, which maximise the tighter bound
    ema_momentum: Annotated[float, Field(ge=0, lt=1)]  # per step, of the average of the weights; 0 for none
    validation_interval: Annotated[int, Field(ge=1)]  # epochs from one validation, and kept state, to the next
    keep: Literal["last", "best"]


class Evaluate(Section):
    """How the evidence lower bound and the likelihood are estimated."""

    seed: Seed  # of the latent noise
    latent_samples: Annotated[int, Field(ge=2)]  # draws of q(z|x) per image, for the bound and its error
    importance_samples: Count  # draws of q(z|x) per image, for the likelihood
    batch_size: Count  # images per call; changes speed only


class Refine(Section):
    """How q(z|x) is refined image by image, to tell what the encoder loses from what a Gaussian loses."""

    seed: Seed  # of the latent noise
    images: Annotated[int, Field(ge=2, le=1000)]  # of each split, its first ones, all in memory at once
    steps: Annotated[int, Field(ge=1, le=100_000)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    latent_samples: Annotated[int, Field(ge=1, le=8)]  # draws of q(z|x) per image and step
    bound_samples: Annotated[int, Field(ge=2)]  # draws of q(z|x) per image, for the bounds before and after


class Classifiers(Section):
    """Classifiers of garments, and what is tried for them; validation images choose."""

    neighbours: Annotated[Neighbours, Field(min_length=1)]  # k of k-nearest-neighbours
    inverse_regularisation: Annotated[Strengths, Field(min_length=1)]  # C of logistic regression
    iterations: Count  # of its optimiser, at most


class Baseline(Classifiers):
    """Classifiers on raw pixels."""


class Represent(Classifiers):
    """Classifiers on posterior means."""


class Outliers(Section):
    """Images that are no garments, or not as the data have them, and how they are scored."""

    seed: Seed  # of the images, their binary draws and the latent noise
    images: Annotated[int, Field(ge=2, le=5_000)]  # of each kind, and as many garments
    latent_samples: Count  # draws of q(z|x) per image, for the bound
    importance_samples: Count  # draws of q(z|x) per image, for the importance-weighted score


class Samples(Section):
    """Samples of the model and how far they are from the data."""

    seed: Seed
    images: Annotated[int, Field(ge=100, le=10_000)]  # samples, and as many images of each split
    components: Annotated[int, Field(ge=1, le=784)]  # of the principal component analysis
    neighbours: Annotated[int, Field(ge=1, le=99)]  # k that makes the radius of an image


class Figures(Section):
    """What the figures draw from."""

    seed: Seed  # of the prior samples
    grid_side: Annotated[int, Field(ge=2, le=60)]  # images along a side of the latent plane
    prior_samples: Annotated[int, Field(ge=1, le=1000)]


class Threads(Section):
    """TensorFlow's thread counts, of which another intra-op count gives other bytes, and its determinism switch."""

    intra_op: Annotated[int, Field(ge=1, le=1024)]
    inter_op: Annotated[int, Field(ge=1, le=1024)]
    op_determinism: bool


class Params(Section):
    """The whole of `params.yaml`."""

    preprocess: Preprocess
    model: Model
    train: Train
    evaluate: Evaluate
    refine: Refine
    baseline: Baseline
    represent: Represent
    outliers: Outliers
    samples: Samples
    figures: Figures
    threads: Threads


def load_params(path: Path = PARAMS_FILE) -> Params:
    """The whole of `params.yaml`, checked.

    Raises:
        StageError: If a key is missing, unknown, of a wrong type or out of range; every one is named.
    """
    return _validate(Params, _read(path), path, prefix=())


def load_sections(names: Iterable[str], path: Path = PARAMS_FILE) -> dict[str, Section]:
    """The sections named, checked.

    Raises:
        StageError: If a section is missing, or a key of it is missing, unknown, of a wrong type or out of range.
    """
    content = _read(path)
    sections: dict[str, Section] = {}
    for name in names:
        if name not in content:
            raise StageError(f"{path}: section {name!r} is missing; expected: {', '.join(Params.model_fields)}")
        sections[name] = _validate(_kind(Params, name), content[name], path, prefix=(name,))
    return sections


def _read(path: Path) -> dict[str, Any]:
    """YAML as DVC reads it (PyYAML would read `1e-3` as text)."""
    if not path.is_file():
        raise StageError(f"{path} is missing; `git restore {path}` brings the committed one back")
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except _UNREADABLE as error:
        raise StageError(f"{path} is not readable as YAML: {error}") from error
    if not isinstance(content, dict):
        raise StageError(f"{path} holds {type(content).__name__}, expected sections: {', '.join(Params.model_fields)}")
    return content


def _validate(kind: type[S], content: Any, path: Path, prefix: tuple[str, ...]) -> S:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        lines = [f"  {_sentence(kind, details, prefix)}" for details in error.errors()]
        raise StageError("\n".join([f"{path} is refused:", *lines])) from error


def _sentence(kind: type[Section], details: ErrorDetails, prefix: tuple[str, ...]) -> str:
    key = ".".join(str(part) for part in (*prefix, *details["loc"]))
    if details["type"] == "missing":
        return f"{key} is missing; expected a value"
    if details["type"] == "extra_forbidden":
        return f"{key} = {details['input']!r} is unknown; expected one of: {', '.join(_siblings(kind, details))}"
    return f"{key} = {details['input']!r}: {details['msg'].replace('Input should', 'it should', 1)}"


def _siblings(kind: type[Section], details: ErrorDetails) -> list[str]:
    """Keys that are known where an unknown one stands."""
    for part in details["loc"][:-1]:
        kind = _kind(kind, str(part))
    return list(kind.model_fields)


def _kind(kind: type[Section], name: str) -> type[Section]:
    """The class of a section by its name."""
    annotation: Any = kind.model_fields[name].annotation
    assert issubclass(annotation, Section)
    kind_of: type[Section] = annotation
    return kind_of
