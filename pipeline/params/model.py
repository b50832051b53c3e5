"""The section `model`."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pipeline.params.section import Name, Section, frozen

Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=8192)], ...], BeforeValidator(frozen)]

ARCHITECTURES = "vae.architectures"
PRIORS = "vae.priors"


class Model(Section):
    """The networks: a module of `vae/architectures`, one of `vae/priors`, and what they are built with."""

    architecture: Name
    latent_dim: int = Field(ge=1, le=1024)
    widths: Annotated[Widths, Field(min_length=1)]
    autoregressive_units: int = Field(ge=0, le=8192)  # of a patch's layer that sees earlier pixels; 0: none
    prior: Name
    prior_widths: Widths
    jit_compile: bool  # of training and refining steps and of likelihood draws, by XLA

    @property
    def networks(self) -> dict[str, Any]:
        """What the networks are built with: the arguments of `vae.model.build_vae`."""
        return self.model_dump(exclude={"jit_compile"})

    @property
    def named_modules(self) -> list[str]:
        """The architecture and the prior."""
        return named_modules(self.model_dump())


def named_modules(section: Mapping[str, Any]) -> list[str]:
    """Modules that a section `model` names: its architecture and its prior."""
    return [f"{ARCHITECTURES}.{section['architecture']}", f"{PRIORS}.{section['prior']}"]
