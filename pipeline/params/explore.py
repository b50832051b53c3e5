"""The section `explore`."""

from pydantic import Field

from pipeline.params.section import Section, Seed


class Explore(Section):
    """What the latent explorer of the report shows."""

    seed: Seed  # of the choice of validation images
    images: int = Field(ge=10, le=2000, multiple_of=10)  # validation images, as many of each class
    grid_side: int = Field(ge=2, le=40)  # decoded images along each side of the plane
