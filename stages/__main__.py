"""`python -m stages NAME --option PATH ...` runs a stage; dvc.yaml states how."""

import argparse
import gc
import importlib
import os
import pkgutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.processor import hold_kernels
from pipeline.surroundings import forget_settings, no_home

PARAMS = Path("params.yaml")


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Keeps back what TensorFlow's libraries write to the terminal while they load, unless loading fails."""
    with tempfile.TemporaryFile() as kept, os.fdopen(os.dup(2), "wb") as terminal:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            terminal.write(kept.read())
            raise
        finally:
            os.dup2(terminal.fileno(), 2)


def main() -> None:
    """Runs the stage named first on the command line with the rest of it, its kernels held as `params.yaml` says."""
    parser = argparse.ArgumentParser(prog="python -m stages", add_help=False, allow_abbrev=False)
    names = sorted({module.name for module in pkgutil.iter_modules(["stages"])} - {"__main__"})
    parser.add_argument("stage", choices=names)
    options, rest = parser.parse_known_args()
    forget_settings()
    hold_kernels(_kernels())
    from pipeline.stage import run_stage  # loads numpy, which chooses its kernels then

    run_stage(options.stage, lambda: _load(options.stage), rest)


def _kernels() -> str:
    """The parameter `kernels.instruction_set`; empty where `check` will refuse it."""
    try:
        return str(YAML(typ="safe").load(PARAMS)["kernels"]["instruction_set"])
    except Exception:  # noqa: BLE001 - whatever is wrong with the file, `check` names it
        return ""


def _load(stage: str) -> Callable[..., None]:
    """The stage's `run`."""
    gc.disable()  # it would look through all that the libraries have loaded, again and again: a fifth of the time
    with _quiet_import(), no_home():
        run: Callable[..., None] = importlib.import_module(f"stages.{stage}").run
    gc.freeze()
    gc.enable()
    return run


if __name__ == "__main__":
    main()
