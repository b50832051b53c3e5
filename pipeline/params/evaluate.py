"""The section `evaluate`."""

from pydantic import Field

from pipeline.params.section import Count, Section, Seed


class Evaluate(Section):
    """How the evidence lower bound and the likelihood are estimated."""

    seed: Seed  # of the latent noise
    latent_samples: int = Field(ge=2)  # draws of q(z|x) per image, for the bound and its error
    importance_samples: int = Field(ge=2)  # draws of q(z|x) per image, for the likelihood and its error
    batch_size: Count  # images per call; changes speed only
