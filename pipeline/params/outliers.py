"""The section `outliers`."""

from typing import Annotated

from pipeline.counts import Images, between
from pipeline.params.section import Count, Section, Seed

MOST = 3_000


class Outliers(Section):
    """Images that are not as the data have them, and how they are scored."""

    seed: Seed  # of the images, their binary draws and the latent noise
    images: Annotated[Images, between(2, MOST)]  # of each kind, and as many real ones
    latent_samples: Count  # draws of q(z|x) per image, for the bound
    importance_samples: Count  # draws of q(z|x) per image, for the importance-weighted score
