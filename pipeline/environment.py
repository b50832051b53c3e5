"""What results depend on beside code, params, data and processor: versions of the numeric packages.

`numeric.txt` holds the Python minor version and the versions of the packages that produce numbers or pixels.
Every stage depends on it, so that a new TensorFlow retrains and a new linter does not.
`python -m pipeline.environment` states the running Python in it; `--write` states the lock's versions too.
"""

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path

from pipeline.errors import StageError
from pipeline.files import atomic

NUMERIC_FILE = Path("numeric.txt")
LOCK_FILE = Path("requirements/runtime.txt")
NUMERIC_PACKAGES = (
    "h5py",
    "keras",
    "matplotlib",
    "numpy",
    "scikit-learn",
    "scipy",
    "tensorflow",
    "tensorflow-datasets",
)

_HEADER = """\
# What results depend on beside code, params and data: every stage depends on this file.
# Written by `make lock` and, where another Python runs, by `make setup`; not by hand.
"""


def read_numeric(path: Path = NUMERIC_FILE) -> dict[str, str]:
    """Versions by name (`python` and the numeric packages) as `numeric.txt` states them."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split(maxsplit=1) for line in lines if " " in line and not line.startswith("#"))


def running_python() -> str:
    """Minor version of this Python, as `3.11`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def verify_numeric(path: Path) -> None:
    """Proves that what runs is what `numeric.txt` states.

    Raises:
        StageError: If a version differs; results would be filed under versions that did not make them.
    """
    numeric = read_numeric(path)
    for name in ("python", *NUMERIC_PACKAGES):
        stated = numeric.get(name, "none")
        running = running_python() if name == "python" else _installed_version(name)
        if running != stated:
            raise StageError(f"{path} states {name} {stated}, but {running} is running; run `make setup`")


def _installed_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def locked_versions(path: Path = LOCK_FILE) -> dict[str, str]:
    """Versions of the numeric packages in the lock file."""
    pins = re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: version for name, version in pins if name in NUMERIC_PACKAGES}


def write_numeric(versions: dict[str, str], path: Path = NUMERIC_FILE) -> None:
    """Writes `numeric.txt`: a header, then `NAME VERSION` a line, `python` first."""
    packages = (f"{name} {versions[name]}" for name in NUMERIC_PACKAGES)
    with atomic(path) as partial:
        partial.write_text("\n".join([_HEADER + f"python {versions['python']}", *packages]) + "\n", encoding="utf-8")


def main() -> None:
    """Brings `numeric.txt` in line with the running Python and, with `--write`, with the lock."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.environment")
    parser.add_argument("--write", action="store_true", help="take the versions from the lock file too")
    arguments = parser.parse_args()
    stated = read_numeric() if NUMERIC_FILE.exists() else {}
    versions = locked_versions() if arguments.write or not stated else dict(stated)
    versions["python"] = running_python()
    if versions == stated:
        return
    write_numeric(versions)
    if stated.get("python") != versions["python"]:
        print(
            f"{NUMERIC_FILE} now states Python {versions['python']} (committed: {stated.get('python', 'none')}): "
            f"every stage runs again, and its results belong to this Python"
        )


if __name__ == "__main__":
    main()
