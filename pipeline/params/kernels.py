"""The section `kernels`."""

from typing import Literal

from pipeline.params.section import Section


class Kernels(Section):
    """Which of the processor's instructions the libraries' kernels use: fewer give the same bytes on more processors.

    `dvc.yaml` puts it on the command line of every stage, as it has to be known before any library is loaded.
    """

    instruction_set: Literal["avx2", "native"]
