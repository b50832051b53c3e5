"""The sections of params.yaml: what is accepted is exactly what was written, what is refused is named."""

import math
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from dvc.utils.serialize import modify_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML

from pipeline.errors import StageError
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

SECTIONS = [Params, *(field.annotation for field in Params.model_fields.values())]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("params") / "params.yaml"


def changed(before: str, after: str) -> str:
    """The valid parameters with one place changed."""
    assert VALID.count(before) == 1
    return VALID.replace(before, after)


def refusal(path: Path, text: str) -> str:
    """What the user reads when `text` is refused."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StageError) as caught:
        load_params(path)
    return str(caught.value)


def loaded_or_refusal(path: Path) -> Params | str:
    """What `path` holds, or why it is refused; any other error is the test's."""
    try:
        return load_params(path)
    except StageError as error:
        return str(error)


def leaf(content: Any, *keys: str) -> Any:
    """The value at a key such as `train`, `beta`, in parameters or in plain content."""
    for key in keys:
        content = content[int(key)] if key.isdigit() else content[key]
    return content


# ---- accepted


def test_shipped_params_load_as_they_are_written() -> None:
    written = YAML(typ="safe").load(SHIPPED.read_text(encoding="utf-8"))
    assert load_params(SHIPPED).model_dump(mode="json") == written


def test_exponent_without_a_point_is_a_number(path: Path) -> None:
    path.write_text(changed("1.0e-3", "1e-3"), encoding="utf-8")
    assert load_params(path).train.learning_rate == 0.001


def test_whole_number_serves_as_a_float(path: Path) -> None:
    path.write_text(changed("beta: 1.0", "beta: 4"), encoding="utf-8")
    assert load_params(path).train.beta == 4


def test_sections_load_alone(path: Path) -> None:
    path.write_text(VALID, encoding="utf-8")
    whole = load_params(path)
    assert load_section(Threads, "threads", path) == whole.threads
    assert load_section(Model, "model", path) == whole.model


def test_sections_not_asked_for_are_not_judged(path: Path) -> None:
    path.write_text(
        "train: nonsense\nunknown: 1\nthreads: {intra_op: 2, inter_op: 1, op_determinism: true}\n", encoding="utf-8"
    )
    assert load_section(Threads, "threads", path).model_dump() == {
        "intra_op": 2,
        "inter_op": 1,
        "op_determinism": True,
    }


@pytest.mark.parametrize("kind", SECTIONS)
def test_no_section_has_a_default(kind: type[Section]) -> None:
    defaults = {name: field.default for name, field in kind.model_fields.items() if not field.is_required()}
    assert defaults == {}
    assert all(field.default is PydanticUndefined for field in kind.model_fields.values())


def test_params_cannot_be_changed(path: Path) -> None:
    path.write_text(VALID, encoding="utf-8")
    loaded = load_params(path)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.train.beta = 2.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        loaded.train = loaded.train  # type: ignore[misc]
    assert isinstance(loaded.model.widths, tuple)


# ---- refused values: key, value and expectation

BAD_VALUES = [
    # before, after, what the message must hold: key and value as Python writes it, expectation
    ("epochs: 3", "epochs: 3.0", "train.epochs = 3.0", "valid integer"),
    ("epochs: 3", "epochs: '3'", "train.epochs = '3'", "valid integer"),
    ("epochs: 3", "epochs: true", "train.epochs = True", "valid integer"),
    ("epochs: 3", "epochs: null", "train.epochs = None", "valid integer"),
    ("epochs: 3", "epochs: [3]", "train.epochs = [3]", "valid integer"),
    ("epochs: 3", "epochs: 0", "train.epochs = 0", "greater than or equal to 1"),
    ("epochs: 3", "epochs: 100001", "train.epochs = 100001", "less than or equal to 100000"),
    ("epochs: 3", "epochs: .inf", "train.epochs = inf", "integer"),
    ("seed: 1,", "seed: -1,", "train.seed = -1", "greater than or equal to 0"),
    ("seed: 1,", "seed: 2147483648,", "train.seed = 2147483648", "less than 2147483648"),
    ("batch_size: 128", "batch_size: 0", "train.batch_size = 0", "greater than or equal to 1"),
    ("beta: 1.0", "beta: -0.5", "train.beta = -0.5", "greater than or equal to 0"),
    ("beta: 1.0", "beta: true", "train.beta = True", "valid number"),
    ("beta: 1.0", "beta: '1.0'", "train.beta = '1.0'", "valid number"),
    ("beta: 1.0", "beta: null", "train.beta = None", "valid number"),
    ("beta: 1.0", "beta: .nan", "train.beta = nan", "finite number"),
    ("beta: 1.0", "beta: .inf", "train.beta = inf", "finite number"),
    ("beta: 1.0", "beta: -.inf", "train.beta = -inf", "finite number"),
    ("beta: 1.0", "beta: 1e999", "train.beta = inf", "finite number"),
    ("beta: 1.0", "beta: 2001-12-24", "train.beta = datetime.date(2001, 12, 24)", "valid number"),
    ("1.0e-3", "0", "train.learning_rate = 0", "greater than 0"),
    ("1.0e-3", "1.5", "train.learning_rate = 1.5", "less than or equal to 1"),
    ("weight_decay: 0", "weight_decay: -0.1", "train.weight_decay = -0.1", "greater than or equal to 0"),
    ("importance_samples: 1,", "importance_samples: 0,", "train.importance_samples = 0", "greater than or equal to 1"),
    ("importance_epochs: 0", "importance_epochs: -1", "train.importance_epochs = -1", "greater than or equal to 0"),
    ("kl_warmup_epochs: 0", "kl_warmup_epochs: -1", "train.kl_warmup_epochs = -1", "greater than or equal to 0"),
    ("kl_warmup_start: 0", "kl_warmup_start: 2", "train.kl_warmup_start = 2", "less than or equal to 1"),
    ("targets: gray", "targets: grey", "train.targets = 'grey'", "'gray' or 'binarised'"),
    ("schedule: constant", "schedule: linear", "train.schedule = 'linear'", "'constant' or 'cosine'"),
    ("keep: last", "keep: first", "train.keep = 'first'", "'last' or 'best'"),
    ("split: published", "split: random", "preprocess.split = 'random'", "'published' or 'stratified'"),
    ("latent_dim: 2", "latent_dim: 0", "model.latent_dim = 0", "greater than or equal to 1"),
    ("latent_dim: 2", "latent_dim: 1025", "model.latent_dim = 1025", "less than or equal to 1024"),
    ("widths: [32, 64]", "widths: []", "model.widths = []", "at least 1"),
    ("widths: [32, 64]", "widths: 32", "model.widths = 32", "a list"),
    ("widths: [32, 64]", "widths: [32, 0]", "model.widths.1 = 0", "greater than or equal to 1"),
    ("widths: [32, 64]", "widths: [32, 64.0]", "model.widths.1 = 64.0", "valid integer"),
    ("widths: [32, 64]", "widths: [32, true]", "model.widths.1 = True", "valid integer"),
    ("widths: [32, 64]", "widths: {a: 32}", "model.widths = {'a': 32}", "a list"),
    ("architecture: textbook", "architecture: ../x", "model.architecture = '../x'", "match pattern"),
    ("architecture: textbook", "architecture: os.path", "model.architecture = 'os.path'", "match pattern"),
    ("autoregressive_units: 0", "autoregressive_units: -1", "model.autoregressive_units = -1", "greater than or equal"),
    ("prior: coupling_flow", "prior: ../x", "model.prior = '../x'", "match pattern"),
    ("prior_widths: [8]", "prior_widths: 8", "model.prior_widths = 8", "a list"),
    ("prior_widths: [8]", "prior_widths: [0]", "model.prior_widths.0 = 0", "greater than or equal to 1"),
    ("jit_compile: false", "jit_compile: 0", "model.jit_compile = 0", "valid boolean"),
    ("rate_warmup_epochs: 0", "rate_warmup_epochs: -1", "train.learning_rate_warmup_epochs = -1", "greater than or"),
    ("ema_momentum: 0", "ema_momentum: 1", "train.ema_momentum = 1", "less than 1"),
    ("validation_interval: 1", "validation_interval: 0", "train.validation_interval = 0", "greater than or equal to 1"),
    (
        "importance_samples: 100",
        "importance_samples: 1",
        "evaluate.importance_samples = 1",
        "greater than or equal to 2",
    ),
    ("op_determinism: true", "op_determinism: 1", "threads.op_determinism = 1", "valid boolean"),
    ("latent_samples: 8", "latent_samples: 1", "evaluate.latent_samples = 1", "greater than or equal to 2"),
    ("images: 50", "images: 501", "refine.images = 501", "less than or equal to 500"),
    ("importance_samples: 11", "importance_samples: 1", "refine.importance_samples = 1", "greater than or equal to 2"),
    ("learning_rate: 0.02", "learning_rate: 0", "refine.learning_rate = 0", "greater than 0"),
    ("latent_samples: 3", "latent_samples: 5", "refine.latent_samples = 5", "less than or equal to 4"),
    ("bound_samples: 64", "bound_samples: 1", "refine.bound_samples = 1", "greater than or equal to 2"),
    ("neighbours: [1, 3]", "neighbours: []", "baseline.neighbours = []", "at least 1"),
    ("neighbours: [1, 3]", "neighbours: [1, 0]", "baseline.neighbours.1 = 0", "greater than or equal to 1"),
    ("neighbours: [5]", "neighbours: 5", "represent.neighbours = 5", "a list"),
    ("[0.1]", "[0.0]", "represent.inverse_regularisation.0 = 0.0", "greater than 0"),
    ("[0.1]", "[.nan]", "represent.inverse_regularisation.0 = nan", "finite number"),
    ("iterations: 200", "iterations: 0", "represent.iterations = 0", "greater than or equal to 1"),
    ("images: 90", "images: 3001", "outliers.images = 3001", "less than or equal to 3000"),
    ("importance_samples: 7", "importance_samples: 0", "outliers.importance_samples = 0", "greater than or equal to 1"),
    ("images: 1000", "images: 99", "samples.images = 99", "greater than or equal to 100"),
    ("components: 50", "components: 785", "samples.components = 785", "less than or equal to 784"),
    ("neighbours: 6", "neighbours: 10", "samples.neighbours = 10", "less than or equal to 9"),
    ("grid_side: 20", "grid_side: 1", "figures.grid_side = 1", "greater than or equal to 2"),
    ("images: 70", "images: 75", "explore.images = 75", "multiple of 10"),
    ("grid_side: 21", "grid_side: 41", "explore.grid_side = 41", "less than or equal to 40"),
    ("images: 255", "images: 0", "export.images = 0", "greater than or equal to 1"),
    ("instruction_set: native", "instruction_set: avx512", "kernels.instruction_set = 'avx512'", "'avx2' or 'native'"),
    ("prior_samples: 100", "prior_samples: 1001", "figures.prior_samples = 1001", "less than or equal to 1000"),
    ("intra_op: 2", "intra_op: 0", "threads.intra_op = 0", "greater than or equal to 1"),
    ("{intra_op: 2, inter_op: 1, op_determinism: true}", "3", "threads = 3", "dictionary"),
    (
        "{intra_op: 2, inter_op: 1, op_determinism: true}",
        "[intra_op, inter_op]",
        "threads = ['intra_op', 'inter_op']",
        "dictionary",
    ),
    ("{intra_op: 2, inter_op: 1, op_determinism: true}", "", "threads = None", "dictionary"),
]


@pytest.mark.parametrize(
    ("before", "after", "key_and_value", "expectation"), BAD_VALUES, ids=[b[1] for b in BAD_VALUES]
)
def test_bad_value_is_refused(path: Path, before: str, after: str, key_and_value: str, expectation: str) -> None:
    line = next(line for line in refusal(path, changed(before, after)).splitlines() if key_and_value in line)
    assert line.strip().startswith(key_and_value)
    assert expectation in line


def test_bad_value_is_refused_where_its_section_alone_is_loaded(path: Path) -> None:
    path.write_text(changed("beta: 1.0", "beta: -1"), encoding="utf-8")
    with pytest.raises(StageError, match=r"train\.beta = -1: it should be greater than or equal to 0"):
        load_section(Train, "train", path)


def test_every_error_is_listed(path: Path) -> None:
    text = VALID.replace("beta: 1.0", "beta: -1").replace("grid_side: 20", "grid_side: x").replace("seed: 2, ", "")
    lines = refusal(path, text).splitlines()
    assert lines[0] == f"{path} is refused:"
    assert [line.split()[0] for line in lines[1:]] == ["train.beta", "evaluate.seed", "figures.grid_side"]


@pytest.mark.parametrize("widths", ["['32']", "[0]", "[true, 64]"])
def test_bad_first_width_is_one_error(path: Path, widths: str) -> None:
    lines = refusal(path, changed("[32, 64]", widths)).splitlines()
    assert len(lines) == 2, lines
    assert lines[1].strip().startswith("model.widths.0 = ")


# ---- refused keys


def test_unknown_key_is_named_with_the_known_ones(path: Path) -> None:
    message = refusal(path, changed("inter_op: 1", "inter_op: 1, cores: 4"))
    assert "threads.cores = 4 is unknown; expected one of: intra_op, inter_op" in message


def test_unknown_key_is_named_where_its_section_alone_is_loaded(path: Path) -> None:
    path.write_text(changed("inter_op: 1", "inter_op: 1, cores: 4"), encoding="utf-8")
    with pytest.raises(StageError, match=r"threads\.cores = 4 is unknown; expected one of: intra_op, inter_op"):
        load_section(Threads, "threads", path)


def test_unknown_section_is_named_with_the_known_ones(path: Path) -> None:
    message = refusal(path, VALID + "trian: {epochs: 3}\n")
    known = (
        "preprocess, model, train, evaluate, refine, baseline, represent, outliers, samples, figures, explore, export, "
        "kernels, threads"
    )
    assert f"trian = {{'epochs': 3}} is unknown; expected one of: {known}" in message


def test_key_that_is_no_text_is_named(path: Path) -> None:
    assert "threads.7 = 7" in refusal(path, changed("inter_op: 1", "inter_op: 1, 7: 4"))


def test_missing_key_is_named(path: Path) -> None:
    assert "threads.inter_op is missing" in refusal(path, changed(", inter_op: 1", ""))


def test_missing_section_is_named(path: Path) -> None:
    assert "threads is missing" in refusal(
        path, changed("threads: {intra_op: 2, inter_op: 1, op_determinism: true}\n", "")
    )


def test_missing_section_is_named_where_it_alone_is_loaded(path: Path) -> None:
    path.write_text(changed("threads: {intra_op: 2, inter_op: 1, op_determinism: true}\n", ""), encoding="utf-8")
    with pytest.raises(StageError, match=r"section 'threads' is missing; expected its keys: intra_op, inter_op"):
        load_section(Threads, "threads", path)


# ---- refused files


@pytest.mark.parametrize(
    ("text", "found"), [("", "NoneType"), ("# only this\n", "NoneType"), ("- a\n", "list"), ("3", "int")]
)
def test_file_without_sections_is_refused(path: Path, text: str, found: str) -> None:
    message = refusal(path, text)
    assert str(path) in message
    assert f"{found}, expected sections: preprocess, model, train" in message


def test_duplicate_key_is_refused(path: Path) -> None:
    assert 'duplicate key "intra_op"' in refusal(path, changed("intra_op: 2", "intra_op: 2, intra_op: 4"))


def test_duplicate_section_is_refused(path: Path) -> None:
    assert 'duplicate key "threads"' in refusal(
        path, VALID + "threads: {intra_op: 8, inter_op: 1, op_determinism: true}\n"
    )


def test_file_that_is_not_utf8_is_refused(path: Path) -> None:
    path.write_bytes(VALID.encode() + "# é\n".encode("latin-1"))
    with pytest.raises(StageError, match=r"params\.yaml is not readable as YAML: .*utf-8"):
        load_params(path)


@pytest.mark.parametrize(
    "text",
    [
        "train:\n\tepochs: 3\n",
        "train: {epochs: 3\n",
        "train: epochs: 3\n",
        "train: !!python/object:os.x 1\n",
        "a: 1\n---\n",
    ],
    ids=["tab", "open brace", "two colons", "python tag", "two documents"],
)
def test_bad_yaml_is_refused_with_its_place(path: Path, text: str) -> None:
    message = refusal(path, text)
    assert f"{path} is not readable as YAML" in message
    assert "line 1" in message or "line 2" in message


@pytest.mark.parametrize(
    "value",
    ["2001-99-99", "2001-01-01T25:00:00", "0x_", "!!int x", "!!float x", "!!bool x", "9" * 5000],
    ids=lambda value: value[:20],
)
def test_value_that_yaml_itself_cannot_build_is_refused(path: Path, value: str) -> None:
    assert str(path) in refusal(path, changed("beta: 1.0", f"beta: {value}"))


def test_set_of_widths_is_refused_for_a_set_has_no_order(path: Path) -> None:
    assert "model.widths" in refusal(path, changed("widths: [32, 64]", "widths: !!set {64, 8, 32}"))


# ---- any scalar at any key


def as_yaml(value: object) -> str:
    """A scalar as YAML 1.2 writes it."""
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
    return str(value)


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
    content = YAML(typ="safe").load(VALID)
    parent = leaf(content, *keys[:-1])
    parent[int(keys[-1]) if keys[-1].isdigit() else keys[-1]] = "PLACE"
    path.write_text(repr(content).replace("'PLACE'", as_yaml(value)), encoding="utf-8")  # a dict's repr is YAML
    result = loaded_or_refusal(path)
    if isinstance(result, str):
        assert f"  {'.'.join(keys)} = " in result
    else:
        found = leaf(result.model_dump(), *keys)
        assert found == value
        assert type(found) is type(value) or (type(found), type(value)) == (float, int)


#: What YAML's numbers, dates, tags and punctuation are made of.
FRAGMENTS = ["0", "1", "08", "0x", "0o", "0b", "_", ".", "e", "-", "+", ":", "2001-12-24", "-99", "T25:00:00", " ", "~"]
FRAGMENTS += [
    "!!int ",
    "!!float ",
    "!!bool ",
    "!!null ",
    "!!set ",
    "!!str ",
    "!x ",
    "&a ",
    "*a",
    "[",
    "]",
    "{",
    "}",
    ",",
]
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
