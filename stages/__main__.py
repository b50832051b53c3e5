"""`python -m stages NAME --option PATH ...` runs a stage; dvc.yaml states how."""

import argparse
import gc
import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.processor import hold_kernels
from pipeline.surroundings import forget_settings, no_home, quiet_import

PARAMS = Path("params.yaml")


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
    with quiet_import(), no_home():
        run: Callable[..., None] = importlib.import_module(f"stages.{stage}").run
    gc.freeze()
    gc.enable()
    return run


if __name__ == "__main__":
    main()
