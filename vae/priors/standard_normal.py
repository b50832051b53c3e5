"""The standard normal prior N(0, I) of Kingma and Welling 2014: nothing to learn, and its KL is exact."""

from collections.abc import Sequence


def build(latent_dim: int, widths: Sequence[int]) -> None:
    """No networks: a VAE without any has this prior, whatever the `latent_dim`.

    Raises:
        ValueError: If there are widths.
    """
    del latent_dim
    if widths:
        raise ValueError(f"prior_widths = {list(widths)}: standard_normal has no layers and takes none, []")
