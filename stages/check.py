"""Validates the whole of `params.yaml` and writes the digest of each stage's code, before any other stage runs.

DVC deletes a stage's outputs before it runs. Every other stage depends on its digest in the file written here, so a
bad parameter is refused before anything is removed or run again, and a stage whose code changed runs again.
"""

import hashlib
import json
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.code import code_digests, code_of
from pipeline.errors import StageError
from pipeline.files import atomic, write_json
from pipeline.params.data import Published
from pipeline.params.model import ARCHITECTURES, PRIORS
from pipeline.params.section import PARAMS_FILE
from pipeline.params.whole import Params
from pipeline.stage import Output
from pipeline.surroundings import no_home, quiet_import

#: What the last fetch found of the data.
FACTS = Path("metrics/data.json")

#: Digest of the networks that were last built.
PROVED = Path("state/proved")


def run(params: Params, code: Output) -> None:
    """Refuses bad parameters, each by name, value and expectation; builds the networks to prove theirs.

    Outputs:
        code: JSON of the digest of each stage's code.

    Raises:
        StageError: If one is refused, the networks cannot be built, or TF_CONFIG names other workers.
    """
    if misfits := [f"  {misfit}" for misfit in _misfits(params)]:
        raise StageError("\n".join([f"{PARAMS_FILE} is refused:", *misfits]))
    if os.environ.get("TF_CONFIG"):
        from pipeline.tf_config import named_workers

        try:
            named_workers(params.train.workers)
        except ValueError as error:
            raise StageError(str(error)) from error
    write_json(code, code_digests(_modules("stages") - {"__main__", "check"}, params.model_dump()))


def _modules(package: str) -> set[str]:
    """Names of the modules of a package."""
    return {module.name for module in pkgutil.iter_modules([package.replace(".", "/")])}


def _misfits(params: Params) -> Iterator[str]:
    """What the sections do not refuse by themselves: values that do not fit together, or name no module."""
    model, train = params.model, params.train
    for key, package in (("architecture", ARCHITECTURES), ("prior", PRIORS)):
        if getattr(model, key) not in _modules(package):
            names = ", ".join(sorted(_modules(package)))
            yield f"model.{key} = {getattr(model, key)!r}: it should be one of: {names}"
            return  # nothing can be built
    try:
        _prove_networks(params)
    except ValueError as error:
        yield f"model: {error}"
    if model.jit_compile and params.threads.op_determinism:
        yield (
            "model.jit_compile = True with threads.op_determinism = True: TensorFlow's switch is for operations that "
            "XLA replaces, and Keras drops the compilation silently under it; set one of them to false (bytes repeat "
            "on the CPU either way)"
        )
    if model.jit_compile and train.workers > 1:
        yield (
            f"model.jit_compile = True with train.workers = {train.workers}: XLA cannot compile the exchange of "
            f"gradients between processes; it should be false"
        )
    if model.autoregressive_units and train.targets != "binarised":
        yield (
            f"train.targets = {train.targets!r} with model.autoregressive_units = {model.autoregressive_units}: an "
            f"autoregressive decoder predicts pixels from binary ones, so it should be 'binarised'"
        )
    if train.batch_size % train.workers:
        yield (
            f"train.batch_size = {train.batch_size} with train.workers = {train.workers}: it should be a multiple of "
            f"the workers, which take equal shares of it"
        )
    if train.targets == "binarised" and params.preprocess.binarisation == "none":
        yield (
            "train.targets = 'binarised' with preprocess.binarisation = 'none': there are no binary images to validate "
            "on, so it should be 'gray'"
        )
    yield from _misfits_of_images(params)


def _misfits_of_images(params: Params) -> Iterator[str]:
    """What does not fit the images that there are."""
    source, batch_size = params.data.source, params.train.batch_size
    if not Path(source).exists():
        yield (
            f"data.source = {source!r}: it is missing; put it there, or bring it back by `dvc checkout` if DVC has it, "
            f"by `git restore` if git has it"
        )
    images = _training_images(params)
    if images and batch_size > images:
        yield f"train.batch_size = {batch_size}: it should be at most {images}, the training images"


def _training_images(params: Params) -> int | None:
    """How many images train, if the last fetch was of this data set and another would find the same; else None.

    Images of one's own may have come since. Stage `train` refuses what they are too few for.
    """
    facts = json.loads(FACTS.read_text(encoding="utf-8")) if FACTS.is_file() else {}
    if not isinstance(params.data, Published) or facts.get("name") != params.data.full_name:
        return None
    preprocess = params.preprocess
    given: int = facts["train" if "train" in facts else "all"]["count"]
    stay = given if "train" in facts else given - round(preprocess.test_share * given)
    published = facts["published"]["validation"] if preprocess.split == "published" else None
    return stay - (published or round(preprocess.validation_share * stay))


def _prove_networks(params: Params) -> None:
    """Builds the networks. TensorFlow is imported only if these, of this code, were never built.

    Raises:
        ValueError: If they cannot be built.
    """
    networks = {**params.model.networks, "image_shape": params.data.image_shape}
    causes = [networks, code_of("check", params.named_modules)]
    proof = hashlib.sha256(json.dumps(causes, sort_keys=True).encode()).hexdigest()
    if PROVED.is_file() and PROVED.read_text(encoding="utf-8") == proof:
        return
    with quiet_import(), no_home():
        from vae.model import build_vae

    build_vae(**networks)
    with atomic(PROVED) as partial:
        partial.write_text(proof, encoding="utf-8")
