"""The section `export`."""

from typing import Annotated

from pipeline.counts import Images, between
from pipeline.params.section import Section, Seed

MOST = 10_000


class Export(Section):
    """How the exported networks are held against Keras'."""

    seed: Seed  # of the prior's noise
    images: Annotated[Images, between(1, MOST)]  # the first ones of the validation split
