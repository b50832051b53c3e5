"""The sections `baseline` and `represent`."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from pipeline.errors import StageError
from pipeline.params.section import Count, Section, frozen

Neighbours = Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], BeforeValidator(frozen)]
Strengths = Annotated[tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(frozen)]


class Classifiers(Section):
    """Classifiers of images, and what is tried for them; validation images choose."""

    neighbours: Annotated[Neighbours, Field(min_length=1)]  # k of k-nearest-neighbours
    inverse_regularisation: Annotated[Strengths, Field(min_length=1)]  # C of logistic regression
    iterations: Count  # of its optimiser, at most

    def require_fitting(self, section: str, images: int) -> None:
        """Refuses more neighbours than there are training images.

        Raises:
            StageError: If a k is more.
        """
        if max(self.neighbours) > images:
            raise StageError(
                f"{section}.neighbours = {max(self.neighbours)}: it should be at most {images}, the images"
            )


class Baseline(Classifiers):
    """Classifiers on raw pixels."""


class Represent(Classifiers):
    """Classifiers on posterior means."""
