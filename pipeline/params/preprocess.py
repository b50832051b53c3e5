"""The section `preprocess`."""

from typing import Literal

from pipeline.params.section import Section, Seed


class Preprocess(Section):
    """How the 60 000 upstream training images become training and validation images."""

    split: Literal["published", "stratified"]
    seed: Seed  # of the stratified split and of its validation draw; the published split has its own
