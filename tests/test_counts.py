"""How many images a stage takes."""

from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.counts import Images, between, fitting
from pipeline.errors import StageError


@pytest.mark.parametrize(
    ("wanted", "there", "taken"), [(5, 20, 5), (20, 20, 20), ("all", 20, 20), ("all", 70, 50), (50, 70, 50)]
)
def test_a_count_that_fits_is_taken_and_all_is_what_there_is(wanted: Images, there: int, taken: int) -> None:
    assert fitting("samples.images", wanted, there, most=50, least=2) == taken


@pytest.mark.parametrize(
    ("wanted", "there", "said"),
    [
        (21, 20, "samples.images = 21: it should be at most 20, as there are 20 images"),
        (51, 70, "samples.images = 51: it should be at most 50, the most that it takes"),
        ("all", 1, "samples.images = 'all': there are 1 images, but 2 at least are needed"),
    ],
)
def test_a_count_that_does_not_fit_is_refused_with_the_greatest(wanted: Images, there: int, said: str) -> None:
    with pytest.raises(StageError, match=said):
        fitting("samples.images", wanted, there, most=50, least=2)


@pytest.mark.parametrize("value", [1, 11, "some", True, 2.0, None])
def test_a_parameter_is_a_number_within_bounds_or_all(value: object) -> None:
    adapter = TypeAdapter(Annotated[Images, between(2, 10)])
    assert [adapter.validate_python(good) for good in (2, 10, "all")] == [2, 10, "all"]
    with pytest.raises(ValidationError, match="should be a whole number from 2 to 10, or 'all'"):
        adapter.validate_python(value)
