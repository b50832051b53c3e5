"""The section `samples`."""

from typing import Annotated

from pydantic import Field

from pipeline.counts import Images, between
from pipeline.params.section import Section, Seed

#: So that each tenth of the images has a neighbour, and so that distances of all pairs are soon made.
LEAST, MOST = 20, 10_000


class Samples(Section):
    """Samples of the model and how far they are from the data."""

    seed: Seed
    images: Annotated[Images, between(LEAST, MOST)]  # samples, and as many images of each split
    components: int = Field(ge=1)  # at most the pixels; of the principal component analysis
    neighbours: int = Field(ge=1, le=9)  # k that makes the radius of an image, also in a tenth of the images
