"""The section `preprocess`."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.section import Section, Seed

Share = Annotated[float, Field(gt=0, lt=0.5)]


class Preprocess(Section):
    """How images become training, validation and test images, and how they become black and white."""

    split: Literal["published", "stratified"]  # the latter also of sets whose test images are published
    seed: Seed  # of the stratified split and of its draws; the published split has its own
    validation_share: Share  # of the images that the stratified split divides
    test_share: Share  # of all images, where no test images are published
    binarisation: Literal["drawn", "thresholded", "none"]  # by gray value; at one half; not at all
