"""The evidence lower bound and its terms, in nats per image.

ELBO = E_q[log p(x|z)] - KL(q(z|x) || p(z))  (Kingma and Welling 2014, equation 3).
"""

import math

import tensorflow as tf

_LOG_2_PI = math.log(2 * math.pi)


def bernoulli_nll(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Reconstruction loss: negative log-likelihood of independent Bernoulli pixels, -log p(x|z).

    Summed over pixels, not averaged over the batch (Kingma and Welling 2014, appendix C.1). For gray
    targets it is the expectation over binary images drawn from them, and no likelihood of gray images.

    Args:
        logits: (batch, rows, columns) float32, log-odds of each pixel.
        targets: (batch, rows, columns) float32 in [0, 1], binary pixels or their probabilities.

    Returns:
        (batch,) float32, nats per image, >= 0 up to rounding.

    Raises:
        ValueError: If the shapes differ; broadcasting would hide the mistake.
    """
    logits.shape.assert_is_compatible_with(targets.shape)
    nats = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    return tf.reduce_sum(nats, axis=(1, 2))


def gaussian_kl(mean: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    """KL divergence of a diagonal Gaussian from the standard normal, per latent.

    Exact (Kingma and Welling 2014, appendix B); not summed, so that the sum over latents and the KL of
    each latent are one formula.

    Args:
        mean: (batch, latent) float32, mean of q(z|x).
        log_var: (batch, latent) float32, log of the variance, not of the standard deviation.

    Returns:
        (batch, latent) float32, nats, >= 0 up to rounding.

    Raises:
        ValueError: If the shapes differ; broadcasting would hide the mistake.
    """
    mean.shape.assert_is_compatible_with(log_var.shape)
    return 0.5 * (tf.square(mean) + tf.math.expm1(log_var) - log_var)


def standard_normal_log_prob(value: tf.Tensor) -> tf.Tensor:
    """Log-density of the standard normal N(0, I), summed over dimensions.

    Args:
        value: (batch, dimensions) float32.

    Returns:
        (batch,) float32, nats.
    """
    return -0.5 * tf.reduce_sum(tf.square(value) + _LOG_2_PI, axis=1)


def sampled_kl(log_var: tf.Tensor, noise: tf.Tensor, log_prior: tf.Tensor) -> tf.Tensor:
    """Unbiased estimate of the KL divergence from any prior: log q(z|x) - log p(z) of one draw z of q(z|x).

    Kingma and Welling 2014, equation 6. As z = mean + sigma * noise, log q(z|x) is the standard normal
    log-density of the noise less the sum of log sigma.

    Args:
        log_var: (batch, latent) float32, log of the variance of q(z|x).
        noise: (batch, latent) float32, standard normal, that z was drawn with.
        log_prior: (batch,) float32, log p(z).

    Returns:
        (batch,) float32, nats per image; negative for some draws.

    Raises:
        ValueError: If the shapes differ; broadcasting would hide the mistake.
    """
    log_var.shape.assert_is_compatible_with(noise.shape)
    log_prior.shape.assert_is_compatible_with(noise.shape[:1])
    return standard_normal_log_prob(noise) - 0.5 * tf.reduce_sum(log_var, axis=1) - log_prior


def path_kl(mean: tf.Tensor, log_var: tf.Tensor, latent: tf.Tensor, log_prior: tf.Tensor) -> tf.Tensor:
    """`sampled_kl` with a gradient of the same mean and less noise: it reaches mean and log_var through the draw alone.

    What it leaves out, the gradient of log q(z|x) at a fixed z, has mean zero. Without it no noise is left where q(z|x)
    is the true posterior (Roeder, Wu and Duvenaud 2017, "Sticking the Landing", section 3).

    Args:
        mean: (batch, latent) float32, mean of q(z|x).
        log_var: (batch, latent) float32, log of the variance.
        latent: (batch, latent) float32, the draw z, as a differentiable function of mean and log_var.
        log_prior: (batch,) float32, log p(z).

    Returns:
        (batch,) float32, nats per image; negative for some draws.

    Raises:
        ValueError: If the shapes differ; broadcasting would hide the mistake.
    """
    mean.shape.assert_is_compatible_with(log_var.shape)
    mean.shape.assert_is_compatible_with(latent.shape)
    mean, log_var = tf.stop_gradient(mean), tf.stop_gradient(log_var)
    return sampled_kl(log_var, (latent - mean) * tf.exp(-0.5 * log_var), log_prior)


def importance_weighted_bound(log_weights: tf.Tensor) -> tf.Tensor:
    """Log of the mean importance weight over draws, whose expectation is a lower bound of log p(x).

    With one draw it is the evidence lower bound's; it grows with the draws (Burda et al. 2016, equation 8 and
    theorem 1).

    Args:
        log_weights: (samples, batch) float32, log p(x, z) - log q(z|x) of each draw.

    Returns:
        (batch,) float32, nats per image.
    """
    return tf.reduce_logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])


def reparameterise(mean: tf.Tensor, log_var: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """A draw of q(z|x) as a differentiable function of its parameters: mean + sigma * noise.

    Source: Kingma and Welling 2014, section 2.4.

    Args:
        mean: (batch, latent) float32.
        log_var: (batch, latent) float32, log of the variance.
        noise: (batch, latent) float32, standard normal.

    Returns:
        (batch, latent) float32.

    Raises:
        ValueError: If the shapes differ; broadcasting would hide the mistake.
    """
    mean.shape.assert_is_compatible_with(log_var.shape)
    mean.shape.assert_is_compatible_with(noise.shape)
    return mean + tf.exp(0.5 * log_var) * noise


def kl_weight(step: tf.Tensor, steps_per_epoch: int, beta: float, warmup_epochs: float, start: float) -> tf.Tensor:
    """Weight of the KL term at a step: `beta`, reached linearly over the warm-up (Sonderby et al. 2016).

    Args:
        step: () int64, steps done before this one, from the start of training.
        steps_per_epoch: Steps in an epoch.
        beta: Final weight (Higgins et al. 2017); 1 is the evidence lower bound.
        warmup_epochs: Epochs until `beta` is reached; 0 for no warm-up.
        start: Share of `beta` that the warm-up starts from, in [0, 1].

    Returns:
        () float32.
    """
    if warmup_epochs == 0:
        return tf.constant(beta, tf.float32)
    progress = (tf.cast(step, tf.float32) + 1.0) / tf.constant(warmup_epochs * steps_per_epoch, tf.float32)
    return beta * (start + (1.0 - start) * tf.minimum(progress, 1.0))


def bernoulli_entropy(probabilities: tf.Tensor) -> tf.Tensor:
    """Entropy of independent Bernoulli pixels, below which no model gets.

    It is the floor of the reconstruction loss of gray targets, and of the negative ELBO of binary targets in
    expectation over their draw; not of the reconstruction loss of binary targets, which the encoder has seen.

    Args:
        probabilities: (batch, rows, columns) float32 in [0, 1].

    Returns:
        (batch,) float32, nats per image.
    """
    return tf.reduce_sum(
        -tf.math.xlogy(probabilities, probabilities) - tf.math.xlog1py(1.0 - probabilities, -probabilities),
        axis=(1, 2),
    )
