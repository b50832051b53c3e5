"""The section `samples`."""

from pydantic import Field

from pipeline.params.section import Section, Seed


class Samples(Section):
    """Samples of the model and how far they are from the data."""

    seed: Seed
    images: int = Field(ge=100, le=10_000)  # samples, and as many images of each split
    components: int = Field(ge=1, le=784)  # of the principal component analysis
    neighbours: int = Field(ge=1, le=9)  # k that makes the radius of an image, also in a tenth of the images
