"""The section `threads`."""

from typing import Annotated

from pydantic import Field

from pipeline.params.section import Section


class Threads(Section):
    """TensorFlow's thread counts, of which another intra-op count gives other bytes, and its determinism switch."""

    intra_op: Annotated[int, Field(ge=1, le=1024)]
    inter_op: Annotated[int, Field(ge=1, le=1024)]
    op_determinism: bool
