"""The section `train`."""

from typing import Literal

from pydantic import Field

from pipeline.params.section import Section, Seed


class Train(Section):
    """The training recipe."""

    seed: Seed  # of initial weights, order, binarisation and latent noise
    targets: Literal["gray", "binarised"]
    epochs: int = Field(ge=1, le=100_000)
    batch_size: int = Field(ge=1, le=60_000)
    workers: int = Field(ge=1, le=1024)  # processes that share every batch
    learning_rate: float = Field(gt=0, le=1)
    learning_rate_warmup_epochs: float = Field(ge=0, le=100_000)
    schedule: Literal["constant", "cosine"]
    weight_decay: float = Field(ge=0, le=10)  # of kernels, decoupled, times the learning rate
    beta: float = Field(ge=0, le=1000)
    kl_warmup_epochs: float = Field(ge=0, le=100_000)
    kl_warmup_start: float = Field(ge=0, le=1)  # share of beta that the warm-up starts from
    importance_samples: int = Field(ge=1, le=1000)  # draws of q(z|x) per image in the last epochs
    importance_epochs: int = Field(ge=0, le=100_000)  # last epochs, which maximise the tighter bound
    ema_momentum: float = Field(ge=0, lt=1)  # per step, of the average of the weights; 0 for none
    validation_interval: int = Field(ge=1)  # epochs from one validation, and kept state, to the next
    keep: Literal["last", "best"]
