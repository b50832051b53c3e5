"""The section `threads`."""

from pydantic import Field

from pipeline.params.section import Section


class Threads(Section):
    """TensorFlow's thread counts, of which another intra-op count gives other bytes, and its determinism switch."""

    intra_op: int = Field(ge=1, le=1024)
    inter_op: int = Field(ge=1, le=1024)
    op_determinism: bool
