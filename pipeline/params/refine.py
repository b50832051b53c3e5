"""The section `refine`."""

from typing import Annotated

from pydantic import Field

from pipeline.counts import Images, between
from pipeline.params.section import Section, Seed

#: Images that fit into memory together with the arrays of their updates.
MOST = 500


class Refine(Section):
    """How q(z|x) is refined image by image, to tell what the encoder loses from what a Gaussian loses."""

    seed: Seed  # of the latent noise
    images: Annotated[Images, between(2, MOST)]  # of each split, its first ones, all in memory at once
    steps: int = Field(ge=1, le=100_000)
    learning_rate: float = Field(gt=0, le=1)
    latent_samples: int = Field(ge=1, le=4)  # draws of q(z|x) per image and step
    bound_samples: int = Field(ge=2)  # draws of q(z|x) per image, for the bounds before and after
    importance_samples: int = Field(ge=2)  # draws of the refined q(z|x) per image, for the likelihood
