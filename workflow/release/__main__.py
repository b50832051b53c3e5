"""`make release VERSION=1.0.0`: proves that all is true and in date, packs what DVC holds, and tags the commit."""

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import StageError
from pipeline.files import atomic, sha256_file
from workflow.command import end
from workflow.history.lock import contradictions, unfinished
from workflow.history.revisions import WORKSPACE, changed, git, resolve
from workflow.history.staleness import stale_records, stale_results
from workflow.release.hub import signer_of, write_hub
from workflow.release.pack import write_pack

FOLDER = Path("releases")

#: Name of the model among GTO's artifacts, as in dvc.yaml.
MODEL = "fashion-vae"


def main(arguments: Sequence[str]) -> int:
    """Packs and tags the commit at hand, and writes the hub's folder. Writes nothing unless everything is true.

    Raises:
        StageError: With everything that stands in the way.
    """
    options = _parser().parse_args(arguments)
    version = options.version
    signer = signer_of(options.sign) if options.sign else None
    if faults := list(_faults(version)):
        raise StageError("\n  ".join([f"version {version!r} is not released:", *faults]))
    path = FOLDER / f"fashion-vae-{version}.tar.gz"
    tag, message = f"v{version}", f"Version {version}"
    tag_of_gto = f"{MODEL}@{tag}"
    register = ["gto", "register", MODEL, "HEAD", "--version", tag, "--message", message]
    folder = FOLDER / f"fashion-vae-{version}"
    with atomic(path) as partial, atomic(folder) as partial_folder:
        write_pack(partial, version, resolve("HEAD"))
        write_hub(partial_folder / "hub", version, resolve("HEAD"), signer)
        try:
            git(Path(), "tag", "--annotate", tag, "--message", message)
            done = subprocess.run(register, capture_output=True, text=True, check=False)
            if done.returncode:
                raise StageError(f"`{' '.join(register)}` failed: {done.stderr.strip()}")
        except StageError:
            subprocess.run(["git", "tag", "--delete", tag, tag_of_gto], capture_output=True, check=False)
            raise
    print(
        f"release: wrote {path}, {path.stat().st_size / 1e6:.0f} MB, sha256 {sha256_file(path)}\n"
        f"release: wrote {folder / 'hub'}{', signed' if signer else ''}, which Hugging Face's hub takes as it is\n"
        f"release: tagged {tag} and {tag_of_gto}; publish them: git push origin {tag} {tag_of_gto}, and the pack "
        f"wherever people download from"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workflow.release", allow_abbrev=False)
    parser.add_argument("version", help="as 1.0.0")
    parser.add_argument("--sign", type=Path, metavar="KEY.pem", help="sign the hub's folder with this private key")
    return parser


def _faults(version: str) -> Iterator[str]:
    """Lists what stands in the way."""
    if not re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)", version):
        yield "it should be a semantic version without a prefix, as 1.0.0"
        return
    stated = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if stated != version:
        yield f"pyproject.toml states version {stated}"
    if not re.search(rf"^## {re.escape(version)}\b", Path("CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE):
        yield f"CHANGELOG.md has no section `## {version}`"
    if git(Path(), "tag", "--list", f"v{version}", f"{MODEL}@v{version}"):
        yield f"there is a tag v{version} or {MODEL}@v{version} already"
    yield from unfinished(resolve(WORKSPACE))
    if uncommitted := changed():
        yield f"not committed: {', '.join(uncommitted)}"
    yield from stale_results()
    yield from contradictions(resolve("HEAD"))
    yield from stale_records()


if __name__ == "__main__":
    end("release", lambda: main(sys.argv[1:]))
