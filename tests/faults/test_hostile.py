"""Input made to do harm: altered archives, and parameters of every form."""

import gzip
import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import test_weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_datasets.core.download.checksums import UrlInfo
from test_params import FRAGMENTS, LEAVES, SCALARS, changed, loaded_or_refusal, with_value

from pipeline import archives
from pipeline.errors import StageError
from pipeline.weights import load_weights, save_weights

#: How many altered archives are tried, how many weights in each way to alter them, how many parameters in each test.
ARCHIVES, WEIGHTS, PARAMETERS = 400, 50, 1000

#: Alters bytes.
Alter = Callable[[bytes, random.Random], bytes]


def bit_flipped(content: bytes, generator: random.Random) -> bytes:
    altered = bytearray(content)
    altered[generator.randrange(len(altered))] ^= 1 << generator.randrange(8)
    return bytes(altered)


def truncated(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randrange(len(content))]


def lengthened(content: bytes, generator: random.Random) -> bytes:
    return content + generator.randbytes(1 + generator.randrange(1000))


def bomb(content: bytes, generator: random.Random) -> bytes:
    """Sixteen thousand times its size, when unpacked; padded to the registered size where it fits."""
    return gzip.compress(bytes(20_000_000), 9).ljust(len(content), b"\0")


ALTER: list[Alter] = [bit_flipped, truncated, lengthened, bomb]


def test_an_altered_archive_is_never_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Counter[str]
) -> None:
    generator = random.Random(0)
    content = gzip.compress(generator.randbytes(20_000))
    info = UrlInfo(
        size=len(content), checksum=hashlib.sha256(content).hexdigest(), filename="t10k-images-idx3-ubyte.gz"
    )
    path = tmp_path / info.filename
    monkeypatch.setattr(gzip, "open", lambda *_: pytest.fail("it was unpacked"))
    for number in range(ARCHIVES):
        altered = ALTER[number % len(ALTER)](content, generator)
        path.write_bytes(altered)
        counts["inputs tried"] += 1
        with pytest.raises(archives.FetchError, match=re.escape(str(path))):
            archives._read(path, info)
        counts["inputs refused"] += 1
    path.write_bytes(content)
    assert archives._read(path, info) == content


@pytest.mark.parametrize("alter", ALTER)
def test_altered_weights_are_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counts: Counter[str], alter: Alter
) -> None:
    generator, vae, folder = random.Random(0), test_weights.vae(1), tmp_path / "model"
    save_weights(vae, folder)
    file = folder / "encoder.weights.h5"
    content = file.read_bytes()
    monkeypatch.setattr(h5py, "File", lambda *_: pytest.fail("it was opened"))
    for _ in range(WEIGHTS):
        file.write_bytes(alter(content, generator))
        counts["inputs tried"] += 1
        with pytest.raises(StageError, match=r"encoder\.weights\.h5 has sha256"):
            load_weights(vae, folder)
        counts["inputs refused"] += 1


@settings(max_examples=PARAMETERS, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(LEAVES), SCALARS)
def test_any_scalar_is_read_or_refused_by_its_key(
    tmp_path: Path, counts: Counter[str], keys: tuple[str, ...], value: object
) -> None:
    key = ".".join(keys)
    judged(tmp_path / "params.yaml", with_value(key, value), key, counts)


@settings(max_examples=PARAMETERS, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join))
def test_any_text_is_read_or_refused(tmp_path: Path, counts: Counter[str], text: str) -> None:
    judged(tmp_path / "params.yaml", changed("beta: 1.0", f"beta: {text}"), "params.yaml", counts)


def judged(path: Path, text: str, named: str, counts: Counter[str]) -> None:
    """Counts a file: whatever is accepted has to say the same when it is written out and read again."""
    path.write_text(text, encoding="utf-8")
    counts["inputs tried"] += 1
    result = loaded_or_refusal(path)
    if isinstance(result, str):
        assert named in result
        counts["inputs refused"] += 1
    else:
        again = type(result).model_validate_json(result.model_dump_json())
        counts["inputs wrongly accepted"] += again != result
        assert again == result
