"""The section `explore`."""

from typing import Annotated

from pydantic import Field

from pipeline.counts import Images, between
from pipeline.params.section import Section, Seed

#: Images that a page shows without delay.
MOST = 2000


class Explore(Section):
    """What the latent explorer of the report shows."""

    seed: Seed  # of the choice of validation images
    images: Annotated[Images, between(1, MOST)]  # validation images, as many of each class
    grid_side: int = Field(ge=2, le=40)  # decoded images along each side of the plane
