"""The section `outliers`."""

from pydantic import Field

from pipeline.params.section import Count, Section, Seed


class Outliers(Section):
    """Images that are no garments, or not as the data have them, and how they are scored."""

    seed: Seed  # of the images, their binary draws and the latent noise
    images: int = Field(ge=2, le=3_000)  # of each kind, and as many garments
    latent_samples: Count  # draws of q(z|x) per image, for the bound
    importance_samples: Count  # draws of q(z|x) per image, for the importance-weighted score
