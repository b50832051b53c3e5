"""The section `figures`."""

from pydantic import Field

from pipeline.params.section import Section, Seed


class Figures(Section):
    """What the figures draw from."""

    seed: Seed  # of the prior samples
    grid_side: int = Field(ge=2, le=60)  # images along a side of the latent plane
    prior_samples: int = Field(ge=1, le=1000)
