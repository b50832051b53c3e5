"""The sections of params.yaml: what is accepted is exactly what was written, what is refused is named."""

import json
import math
import re
import shutil
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from conftest import PARAMS, ROOT
from dvc.utils.serialize import modify_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from pipeline.errors import StageError
from pipeline.params.data import Data
from pipeline.params.model import Model
from pipeline.params.section import Section, load_section
from pipeline.params.threads import Threads
from pipeline.params.train import Train
from pipeline.params.whole import Params, load_params

SHIPPED = ROOT / "params.yaml"

VALID = """\
preprocess: {split: published, seed: 0}
model: {architecture: textbook, latent_dim: 2, widths: [32, 64], autoregressive_units: 0,
  prior: coupling_flow, prior_widths: [8], jit_compile: false}
train: {seed: 1, targets: gray, epochs: 3, batch_size: 128, workers: 1, learning_rate: 1.0e-3,
  learning_rate_warmup_epochs: 0, schedule: constant, weight_decay: 0, beta: 1.0, kl_warmup_epochs: 0,
  kl_warmup_start: 0, importance_samples: 1, importance_epochs: 0, ema_momentum: 0, validation_interval: 1, keep: last}
evaluate: {seed: 2, latent_samples: 8, importance_samples: 100, batch_size: 500}
refine: {seed: 4, images: 50, steps: 10, learning_rate: 0.02, latent_samples: 3, bound_samples: 64,
  importance_samples: 11}
baseline: {neighbours: [1, 3], inverse_regularisation: [0.01], iterations: 100}
represent: {neighbours: [5], inverse_regularisation: [0.1], iterations: 200}
outliers: {seed: 5, images: 90, latent_samples: 9, importance_samples: 7}
samples: {seed: 6, images: 1000, components: 50, neighbours: 6}
figures: {seed: 3, grid_side: 20, prior_samples: 100}
explore: {seed: 8, images: 70, grid_side: 21}
export: {seed: 7, images: 255}
kernels: {instruction_set: native}
threads: {intra_op: 2, inter_op: 1, op_determinism: true}
"""


def filled(text: str) -> str:
    """Adds what `params.yaml` has besides, so that a new parameter needs no change here."""
    given = YAML(typ="safe").load(text)
    for section, values in PARAMS.items():
        more = [f"{key}: {json.dumps(value)}" for key, value in values.items() if key not in given.get(section, {})]
        if section not in given:
            text = f"{section}: {{{', '.join(more)}}}\n{text}"
        elif more:
            text = re.sub(rf"(?ms)^({section}: .*?)\}}$", rf"\1, {', '.join(more)}}}", text, count=1)
    return text


VALID = filled(VALID)
THREADS = VALID.splitlines(keepends=True)[-1]

SECTIONS = [Params, *(field.annotation for field in Params.model_fields.values())]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("params") / "params.yaml"


def changed(before: str, after: str) -> str:
    """The valid parameters with one place changed."""
    assert VALID.count(before) == 1
    return VALID.replace(before, after)


def with_value(key: str, value: object) -> str:
    """The valid parameters with one value changed; `key` names it as `model.widths.0`."""
    content = YAML(typ="safe").load(VALID)
    *parents, last = key.split(".")
    leaf(content, *parents)[int(last) if last.isdigit() else last] = value
    return as_yaml(content)


def as_yaml(value: object) -> str:
    """A value as YAML 1.2 writes it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float() if math.isnan(value):
            return ".nan"
        case float() if math.isinf(value):
            return ".inf" if value > 0 else "-.inf"
        case str():
            return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'
        case list():
            return f"[{', '.join(map(as_yaml, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {as_yaml(item)}' for key, item in value.items())}}}"
    return str(value)


def leaf(content: Any, *keys: str) -> Any:
    """The value at a key such as `train`, `beta`, in parameters or in plain content."""
    for key in keys:
        content = content[int(key)] if key.isdigit() else content[key]
    return content


def loaded(path: Path, text: str) -> Params:
    path.write_text(text, encoding="utf-8")
    return load_params(path)


def loaded_or_refusal(path: Path) -> Params | str:
    """What `path` holds, or why it is refused; any other error is the test's."""
    try:
        return load_params(path)
    except StageError as error:
        return str(error)


def refusal(path: Path, text: str) -> str:
    """What the user reads when `text` is refused."""
    path.write_text(text, encoding="utf-8")
    message = loaded_or_refusal(path)
    assert isinstance(message, str), "it was accepted"
    return message


# ---- accepted


def test_shipped_params_load_as_they_are_written() -> None:
    written = YAML(typ="safe").load(SHIPPED.read_text(encoding="utf-8"))
    assert load_params(SHIPPED).model_dump(mode="json") == written


def test_exponent_without_a_point_is_a_number(path: Path) -> None:
    assert loaded(path, changed("1.0e-3", "1e-3")).train.learning_rate == 0.001


def test_sections_load_alone_whatever_the_others_hold(path: Path) -> None:
    whole = loaded(path, VALID)
    assert load_section(Model, "model", path) == whole.model
    path.write_text(f"train: nonsense\nunknown: 1\n{THREADS}", encoding="utf-8")
    assert load_section(Threads, "threads", path) == whole.threads


@pytest.mark.parametrize("kind", SECTIONS)
def test_no_section_has_a_default(kind: type[Section]) -> None:
    assert {field.default for field in kind.model_fields.values()} == {PydanticUndefined}
    assert all(field.is_required() for field in kind.model_fields.values())


def test_params_cannot_be_changed(path: Path) -> None:
    params = loaded(path, VALID)
    with pytest.raises(ValidationError, match="frozen"):
        params.train.beta = 2.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        params.train = params.train  # type: ignore[misc]
    assert isinstance(params.model.widths, tuple)


# ---- refused values

#: What is expected, values that are not that, and keys at which each of them is refused.
BAD_VALUES: list[tuple[str, list[Any], str]] = [
    ("valid integer", [3.0, "3", True, None, [3], math.inf], "train.epochs"),
    ("valid integer", ["64", 64.0, True], "model.widths.0 model.widths.1"),
    ("finite number", [math.nan, math.inf, -math.inf], "train.beta represent.inverse_regularisation.0"),
    ("valid number", [True, "1.0", None, date(2001, 12, 24)], "train.beta"),
    ("valid boolean", [0], "model.jit_compile"),
    ("valid boolean", [1], "threads.op_determinism"),
    ("'gray' or 'binarised'", ["grey"], "train.targets"),
    ("'constant' or 'cosine'", ["linear"], "train.schedule"),
    ("'last' or 'best'", ["first"], "train.keep"),
    ("'published' or 'stratified'", ["random"], "preprocess.split"),
    ("'avx2' or 'native'", ["avx512"], "kernels.instruction_set"),
    ("match pattern", ["../x", "os.path"], "model.architecture model.prior"),
    ("a list", [8, {"a": 32}], "model.widths model.prior_widths represent.neighbours"),
    ("at least 1", [[]], "model.widths baseline.neighbours"),
    ("greater than or equal to 0", [-1], "train.seed train.beta train.weight_decay train.importance_epochs"),
    ("greater than or equal to 0", [-1], "train.kl_warmup_epochs train.learning_rate_warmup_epochs"),
    ("greater than or equal to 0", [-1], "model.autoregressive_units"),
    ("greater than 0", [0], "train.learning_rate refine.learning_rate represent.inverse_regularisation.0"),
    ("greater than or equal to 1", [0], "train.epochs train.batch_size train.importance_samples model.widths.0"),
    ("greater than or equal to 1", [0], "train.validation_interval model.latent_dim model.widths.1"),
    ("greater than or equal to 1", [0], "model.prior_widths.0 baseline.neighbours.1 represent.iterations"),
    ("greater than or equal to 1", [0], "outliers.importance_samples threads.intra_op"),
    ("greater than or equal to 2", [1], "evaluate.importance_samples evaluate.latent_samples figures.grid_side"),
    ("greater than or equal to 2", [1], "refine.importance_samples refine.bound_samples"),
    ("whole number from 20 to 10000, or 'all'", [19, 10_001, True, 20.0, "some"], "samples.images"),
    ("less than 1", [1], "train.ema_momentum"),
    ("less than or equal to 1", [1.5], "train.learning_rate train.kl_warmup_start"),
    ("less than or equal to 4", [5], "refine.latent_samples"),
    ("less than or equal to 9", [10], "samples.neighbours"),
    ("less than or equal to 40", [41], "explore.grid_side"),
    ("whole number from 2 to 500, or 'all'", [1, 501], "refine.images"),
    ("less than or equal to 1000", [1001], "figures.prior_samples"),
    ("less than or equal to 1024", [1025], "model.latent_dim"),
    ("whole number from 2 to 3000, or 'all'", [1, 3001], "outliers.images"),
    ("less than or equal to 100000", [100_001], "train.epochs"),
    ("less than 2147483648", [2**31], "train.seed"),
    ("whole number from 1 to 2000, or 'all'", [0, 2001], "explore.images"),
    ("whole number from 1 to 10000, or 'all'", [0, 10_001], "export.images"),
    ("dictionary", [3, ["intra_op", "inter_op"], None], "threads"),
]


@pytest.mark.parametrize(("expected", "values", "keys"), BAD_VALUES)
def test_bad_value_is_refused_by_its_key_alone(path: Path, expected: str, values: list[Any], keys: str) -> None:
    for key, value in product(keys.split(), values):
        _, line = refusal(path, with_value(key, value)).splitlines()
        assert line.startswith(f"  {key} = {value!r}: ")
        assert expected in line


def test_every_error_is_listed(path: Path) -> None:
    text = VALID.replace("beta: 1.0", "beta: -1").replace("grid_side: 20", "grid_side: x").replace("seed: 2, ", "")
    lines = refusal(path, text).splitlines()
    assert lines[0] == f"{path} is refused:"
    assert [line.split()[0] for line in lines[1:]] == ["train.beta", "evaluate.seed", "figures.grid_side"]


# ---- refused keys, and values that are refused before they have one

KNOWN = ", ".join(Params.model_fields)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (THREADS, THREADS + "trian: {epochs: 3}", f"trian = {{'epochs': 3}} is unknown; expected one of: {KNOWN}"),
        ("inter_op: 1", "inter_op: 1, 7: 4", "threads.7 = 7"),
        (", inter_op: 1", "", "threads.inter_op is missing"),
        (THREADS, "", "threads is missing"),
        ("intra_op: 2", "intra_op: 2, intra_op: 4", 'duplicate key "intra_op"'),
        (THREADS, THREADS + THREADS, 'duplicate key "threads"'),
        ("beta: 1.0", "beta: 1e999", "train.beta = inf: it should be a finite number"),
        ("[32, 64]", "!!set {64, 8, 32}", "model.widths"),  # a set has no order
    ],
)
def test_what_is_wrong_is_named(path: Path, before: str, after: str, message: str) -> None:
    assert message in refusal(path, changed(before, after))


def test_unknown_key_is_named_with_the_known_ones(path: Path) -> None:
    message = refusal(path, changed("inter_op: 1", "inter_op: 1, cores: 4"))
    assert "threads.cores = 4 is unknown; expected one of: intra_op, inter_op" in message


@pytest.mark.parametrize(
    ("kind", "before", "after", "message"),
    [
        (Train, "beta: 1.0", "beta: -1", r"train\.beta = -1: it should be greater than or equal to 0"),
        (Threads, "inter_op: 1", "cores: 4", r"threads\.cores = 4 is unknown; expected one of: intra_op, inter_op"),
        (Threads, THREADS, "", r"section 'threads' is missing; expected its keys: intra_op, inter_op"),
    ],
)
def test_what_is_wrong_with_a_section_that_is_loaded_alone_is_named(
    path: Path, kind: type[Section], before: str, after: str, message: str
) -> None:
    path.write_text(changed(before, after), encoding="utf-8")
    with pytest.raises(StageError, match=message):
        load_section(kind, kind.__name__.lower(), path)


# ---- the data set, whose section is what its module says


def data_params(**data: Any) -> str:
    content = YAML(typ="safe").load(VALID)
    return json.dumps({**content, "data": {"source": "datasets.json", **data}})  # YAML, too


def test_the_data_set_says_which_keys_its_section_has(path: Path) -> None:
    params = loaded(path, data_params(name="emnist", variant="letters"))
    assert (params.data.full_name, params.data.image_shape) == ("emnist/letters", (28, 28))
    assert params.named_modules[0] == "pipeline.datasets.emnist"
    assert params == loaded(path, data_params(name="emnist", variant="letters"))
    assert params != loaded(path, data_params(name="emnist", variant="digits"))
    assert load_section(Data, "data", path) == loaded(path, data_params(name="emnist", variant="digits")).data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"name": "cifar"},
            "data.name = 'cifar': it should be one of: digits, emnist, fashion_mnist, folder, kmnist, mnist",
        ),
        ({"name": 3}, "data.name = 3: it should be one of"),
        ({}, "data.name is missing"),
        ({"name": "digits", "source": "mine"}, "data.source = 'mine': it should be 'datasets.json'"),
        ({"name": "digits", "side": 8}, "data.side = 8 is unknown; expected one of: name, source"),
        ({"name": "emnist", "variant": "all"}, "data.variant = 'all': it should be 'balanced'"),
        ({"name": "folder", "side": 3}, "data.side = 3: it should be greater than or equal to 4"),
        ({"name": "folder", "side": 65}, "data.side = 65: it should be less than or equal to 64"),
        ({"name": "folder", "background": 256}, "data.background = 256: it should be less than or equal to 255"),
        ({"name": "folder", "fit": "stretch"}, "data.fit = 'stretch': it should be 'crop' or 'pad'"),
    ],
)
def test_what_does_not_suit_the_data_set_is_named(path: Path, data: dict[str, Any], message: str) -> None:
    said = refusal(path, data_params(**data))
    assert said.startswith(f"{path} is refused:\n")
    assert f"  {message}" in said


# ---- refused files

#: What is said of a file, and files that it is said of.
UNREADABLE: list[tuple[str, list[str | bytes]]] = [
    (f"holds NoneType, expected sections: {KNOWN}", ["", "# only this\n"]),
    ("holds list, expected sections", ["- a\n"]),
    ("holds int, expected sections", ["3"]),
    ("is not readable as YAML: 'utf-8' codec", ["# é\n".encode("latin-1")]),
    (r"is not readable as YAML: (.|\n)*line [12]", ["train:\n\tepochs: 3", "train: {epochs: 3", "a: 1\n---"]),
    (r"is not readable as YAML: (.|\n)*line [12]", ["train: epochs: 3", "train: !!python/object:os.x 1"]),
]
UNREADABLE += [  # values that YAML itself cannot build
    ("", [changed("beta: 1.0", f"beta: {value}")])
    for value in ["2001-99-99", "2001-01-01T25:00:00", "0x_", "!!int x", "!!float x", "!!bool x", "9" * 5000]
]


@pytest.mark.parametrize(("message", "texts"), UNREADABLE)
def test_file_that_cannot_be_read_is_refused(path: Path, message: str, texts: list[str | bytes]) -> None:
    for text in texts:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(StageError, match=rf"params\.yaml.*{message}"):
            load_params(path)


# ---- any scalar at any key

LEAVES = [
    (section, key, *element)
    for section, keys in YAML(typ="safe").load(VALID).items()
    for key, value in keys.items()
    for element in ([(str(i),) for i in range(len(value))] if isinstance(value, list) else [()])
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 3),
    st.floats(),
    st.floats(0, 1),
    st.dates(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(["published", "stratified", "gray", "binarised", "cosine", "best", "other", "textbook\n"]),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(LEAVES), SCALARS)
@example(("train", "beta"), True)
@example(("train", "beta"), 2**53 + 1)
@example(("train", "beta"), 10**400)
@example(("train", "epochs"), 30.0)
@example(("model", "widths", "0"), date(2001, 12, 24))
def test_any_scalar_is_taken_as_it_is_or_refused_by_its_key(path: Path, keys: tuple[str, ...], value: object) -> None:
    path.write_text(with_value(".".join(keys), value), encoding="utf-8")
    result = loaded_or_refusal(path)
    if isinstance(result, str):
        assert f"  {'.'.join(keys)} = " in result
    else:
        found = leaf(result.model_dump(), *keys)
        assert found == value
        assert type(found) is type(value) or (type(found), type(value)) == (float, int)


#: What YAML's numbers, dates, tags and punctuation are made of.
FRAGMENTS = ["0", "1", "08", "0x", "0o", "0b", "_", ".", "e", "-", "+", ":", "2001-12-24", "-99", "T25:00:00", " ", "~"]
FRAGMENTS += ["!!int ", "!!float ", "!!bool ", "!!null ", "!!set ", "!!str ", "!x ", "&a ", "*a", *"[]{},"]
FRAGMENTS += ["'", '"', "#", "\n", "\t", "%", "@", "|", ">", "?", "<<", "inf", "nan", "true", "\x00", "é", "\u2028"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join))
def test_any_text_in_place_of_a_number_is_read_or_refused(path: Path, text: str) -> None:
    path.write_text(changed("beta: 1.0", f"beta: {text}"), encoding="utf-8")
    result = loaded_or_refusal(path)
    if isinstance(result, str):
        assert str(path) in result
    else:
        assert 0 <= result.train.beta < math.inf


def test_an_experiment_changes_only_the_line_that_it_is_about(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(SHIPPED, path)
    with modify_yaml(path) as params:
        params["represent"]["iterations"] += 1
    before, after = (file.read_text(encoding="utf-8").splitlines() for file in (SHIPPED, path))
    assert len(before) == len(after)
    assert [line.strip() for line, other in zip(after, before, strict=True) if line != other] == ["iterations: 201"]
