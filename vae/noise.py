"""Random draws as functions of (seed, step): the same whether training is resumed, split over calls or over workers."""

import tensorflow as tf

_BINARISATION, _LATENT, _EVALUATION, _IMPORTANCE, _EVALUATION_DRAW = range(5)


def binarise(images: tf.Tensor, seed: int, step: tf.Tensor) -> tf.Tensor:
    """A binary image drawn from each gray one, for one training step.

    Args:
        images: (batch, rows, columns) float32 in [0, 1], the whole global batch.
        seed: Of the training run.
        step: () int64, from the start of training.

    Returns:
        (batch, rows, columns) float32, 0 or 1.
    """
    return _drawn(images, _key(seed, _BINARISATION, step))


def latent_noise(batch: int, latent_dim: int, seed: int, step: tf.Tensor) -> tf.Tensor:
    """Standard normal noise for the latents of one training step, (batch, latent_dim) float32."""
    return tf.random.stateless_normal((batch, latent_dim), _key(seed, _LATENT, step), alg="philox")


def evaluation_noise(count: int, latent_dim: int, seed: int, sample: int) -> tf.Tensor:
    """Standard normal noise for the `sample`-th draw of every image's latents, (count, latent_dim) float32.

    It belongs to the image, not to the batch in which the image is evaluated.
    """
    return tf.random.stateless_normal((count, latent_dim), _key(seed, _EVALUATION, sample), alg="philox")


def evaluation_draw(images: tf.Tensor, seed: int, sample: int) -> tf.Tensor:
    """The `sample`-th binary draw from each gray image, itself if that is binary; both (count, rows, columns) float32.

    It belongs to the image, not to the batch in which the image is evaluated.
    """
    return _drawn(images, _key(seed, _EVALUATION_DRAW, sample))


def importance_noise(count: int, latent_dim: int, stream: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
    """Standard normal noise for the `sample`-th importance-weighted draw, (count, latent_dim) float32.

    Args:
        count: Images that share the stream.
        latent_dim: Latents.
        stream: (2,) int32, seed and number of these images among all.
        sample: () int32.
    """
    return tf.random.stateless_normal(
        (count, latent_dim), _key(stream[0], _IMPORTANCE, stream[1], sample), alg="philox"
    )


def _drawn(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.random.stateless_uniform(tf.shape(images), key, alg="philox") < images, tf.float32)


def _key(seed: int | tf.Tensor, stream: int, *steps: tf.Tensor | int) -> tf.Tensor:
    key = tf.stack([tf.cast(seed, tf.int64), tf.constant(stream, tf.int64)])
    for step in steps:  # fold_in takes the type of the step for its own: equal steps of other types would differ
        key = tf.random.fold_in(key, tf.cast(step, tf.int64), alg="philox")
    return key
