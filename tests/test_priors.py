"""Learned priors are densities: invertible, with the Jacobian of finite differences, and they sum to one."""

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from vae.model import VAE, build_vae

Array = NDArray[np.floating]

LATENTS = 5


def flow_vae(latent_dim: int = LATENTS, *, scale: float = 0.4) -> VAE:
    """A VAE whose flow has weights drawn with deviation `scale`, so that it is far from the identity."""
    keras.utils.set_random_seed(0)
    vae = build_vae("gated_dense", latent_dim, [3], (28, 28), "coupling_flow", [8, 6, 7])
    generator = np.random.default_rng(1)
    assert vae.prior is not None
    for weight in vae.prior.normalise.weights:
        weight.assign(generator.normal(0, scale, weight.shape))
    return vae


def latents_of(count: int, latent_dim: int = LATENTS) -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(0, 1.5, (count, latent_dim)).astype(np.float32)


def standard_normal_log_density(values: Array) -> Array:
    return (-0.5 * values.astype(np.float64) ** 2 - 0.5 * np.log(2 * np.pi)).sum(axis=1)


def test_a_fresh_flow_is_the_standard_normal() -> None:
    vae = build_vae("gated_dense", LATENTS, [3], (28, 28), "coupling_flow", [8, 8])
    latents = latents_of(20)
    np.testing.assert_allclose(vae.log_prior(latents), standard_normal_log_density(latents), rtol=1e-5)


def test_generating_undoes_normalising_and_the_other_way_round() -> None:
    vae = flow_vae()
    prior = vae.prior
    assert prior is not None
    latents = latents_of(50)
    noise, _ = prior.normalise(latents)
    assert np.abs(noise.numpy() - latents).max() > 1  # it is not the identity
    np.testing.assert_allclose(vae.from_noise(noise), latents, atol=1e-4)
    back, _ = prior.normalise(prior.generate(latents))
    np.testing.assert_allclose(back, latents, atol=1e-4)


def test_the_log_determinant_is_that_of_finite_differences() -> None:
    prior = flow_vae().prior
    assert prior is not None
    latents, step = latents_of(10), 1e-2
    _, log_det = prior.normalise(latents)
    for number, latent in enumerate(latents):
        moved = np.concatenate([latent + step * np.eye(LATENTS), latent - step * np.eye(LATENTS)]).astype(np.float32)
        noise = prior.normalise(moved)[0].numpy().astype(np.float64)
        jacobian = (noise[:LATENTS] - noise[LATENTS:]).T / (2 * step)
        assert np.linalg.slogdet(jacobian)[1] == pytest.approx(float(log_det[number]), abs=0.05)


def test_the_density_of_two_latents_sums_to_one() -> None:
    vae = flow_vae(2)
    axis = np.linspace(-25, 25, 1001)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32)
    density = np.exp(vae.log_prior(grid).numpy().astype(np.float64))
    assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=2e-3)


def test_the_standard_normal_prior_draws_the_noise_itself() -> None:
    vae = build_vae("gated_dense", LATENTS, [3], (28, 28))
    latents = latents_of(4)
    np.testing.assert_array_equal(vae.from_noise(latents), latents)
    np.testing.assert_allclose(vae.log_prior(latents), standard_normal_log_density(latents), rtol=1e-5)


def test_a_vae_counts_the_weights_of_a_learned_prior() -> None:
    plain, learned = build_vae("gated_dense", LATENTS, [3], (28, 28)), flow_vae()
    assert learned.prior is not None
    assert len(learned.variables) - len(plain.variables) == len(learned.prior.normalise.weights) == 3 * 8
    assert [network.name for network in learned.networks] == ["encoder", "decoder", "normalise"]


@pytest.mark.parametrize(
    ("prior", "latent_dim", "widths", "message"),
    [
        ("coupling_flow", 1, [8], "latent_dim = 1: coupling_flow needs two latents"),
        ("coupling_flow", 2, [], r"prior_widths = \[\]: coupling_flow needs"),
        ("standard_normal", 2, [8], r"prior_widths = \[8\]: standard_normal has no layers"),
    ],
)
def test_a_prior_refuses_what_it_cannot_be_built_with(
    prior: str, latent_dim: int, widths: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_vae("gated_dense", latent_dim, [3], (28, 28), prior, widths)
