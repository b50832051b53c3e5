"""Unfinished work: it comes back to the same work only, goes when that is done, and one process at a time has it."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from test_files import Payload

from pipeline.errors import StageError
from pipeline.state import State

DIGEST, OTHER_DIGEST = "a" * 64, "b" * 64

#: Holds the state of `train` in the current folder until its input ends, or until it is killed.
HOLDER = f"""
import sys
from pathlib import Path
import numpy as np
from pipeline.state import State

state = State(Path("state"), "train", "{DIGEST}")
with state.held():
    state.save({{"epoch": np.arange(3)}})
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path / "state", "train", DIGEST)


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the state kept in `folder`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def files(folder: Path) -> list[str]:
    """What stands in `folder`, but for locks."""
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


# ---- load and save


def test_arrays_come_back_with_their_bytes_types_and_shapes(state: State) -> None:
    arrays = {
        "history": np.array([[1.0, 0.1], [2.0, np.nan]]),
        "state_0000": np.array(7, np.int64),
        "state_0001": np.arange(6, dtype=np.float32).reshape(2, 3),
        "kept_0000": np.zeros((0, 4), np.float16),
    }
    state.save(arrays)
    loaded = state.load()
    assert loaded is not None
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert loaded[name].tobytes() == array.tobytes()


def test_last_save_that_succeeded_is_what_loads(state: State) -> None:
    state.save({"epoch": np.array(1), "only_first": np.array(1)})
    state.save({"epoch": np.array(2)})
    with pytest.raises(ValueError, match="allow_pickle"):
        state.save({"epoch": np.array(3), "objects": np.array([{}, None])})
    assert state.load() == {"epoch": np.array(2)}
    assert files(state.path.parent) == [state.path.name]


@pytest.mark.parametrize(("stage", "digest"), [("train", OTHER_DIGEST), ("evaluate", DIGEST)])
def test_other_work_does_not_see_it(state: State, stage: str, digest: str) -> None:
    state.save({"epoch": np.array(1)})
    other = State(state.path.parent, stage, digest)
    assert other.load() is None
    other.save({"epoch": np.array(9)})
    assert state.load() == {"epoch": np.array(1)}


def test_pickle_in_a_state_is_never_run(state: State, tmp_path: Path) -> None:
    array = np.empty(1, object)
    array[0] = Payload(tmp_path / "was here")
    state.path.parent.mkdir()
    np.savez(state.path, epoch=array, allow_pickle=True)
    with pytest.raises(StageError):
        state.load()
    assert not (tmp_path / "was here").exists()
    np.load(state.path, allow_pickle=True)["epoch"]
    assert (tmp_path / "was here").exists(), "the payload is harmless, so this test proves nothing"


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 130] ^= 1
    path.write_bytes(content)


def replaced(path: Path) -> None:
    path.write_bytes(pickle.dumps({"epoch": 1}))


def rewritten(path: Path) -> None:
    with np.load(path) as file:
        np.savez(path, **{**file, "epoch": file["epoch"] + 1})


def unproven(path: Path) -> None:
    np.savez(path, epoch=np.arange(100))


@pytest.mark.parametrize("damage", [cut, flipped, replaced, rewritten, unproven])
def test_damaged_state_is_refused_by_name(state: State, damage: Callable[[Path], None]) -> None:
    state.save({"epoch": np.arange(100)})
    damage(state.path)
    with pytest.raises(StageError, match=f"{state.path.name} is damaged"):
        state.load()


# ---- the lock


def save_and_fail(state: State, failure: type[BaseException]) -> None:
    with state.held():
        state.save({"epoch": np.array(1)})
        raise failure


@pytest.mark.parametrize("failure", [FloatingPointError, KeyboardInterrupt])
def test_state_is_kept_and_the_lock_free_when_the_work_fails(state: State, failure: type[BaseException]) -> None:
    with pytest.raises(failure):
        save_and_fail(state, failure)
    with state.held():
        assert state.load() == {"epoch": np.array(1)}


@pytest.mark.parametrize("digest", [DIGEST, OTHER_DIGEST], ids=["same work", "other params"])
def test_second_process_is_refused_and_told_the_pid_of_the_first(state: State, tmp_path: Path, digest: str) -> None:
    second = State(tmp_path / "state", "train", digest)
    with holder(tmp_path) as first:
        for _ in range(2):  # the one refused neither frees the lock nor takes the pid's place
            with pytest.raises(StageError, match=rf"train\.lock is held by process {first.pid}, "), second.held():
                pytest.fail("worked beside the first")
        with State(tmp_path / "state", "evaluate", DIGEST).held():
            first.communicate()
        assert first.returncode == 0
    with second.held():
        assert (tmp_path / "state" / "train.lock").read_text(encoding="utf-8") == str(os.getpid())
    assert (state.load() or {})["epoch"].tolist() == [0, 1, 2]
