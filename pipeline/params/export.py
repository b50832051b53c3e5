"""The section `export`."""

from pydantic import Field

from pipeline.params.section import Section, Seed


class Export(Section):
    """How the exported networks are held against Keras'."""

    seed: Seed  # of the prior's noise
    images: int = Field(ge=1, le=10_000)  # the first ones of the validation split
