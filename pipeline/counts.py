"""How many images a stage takes: a number that has to fit, or `all`."""

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from pipeline.errors import StageError

#: As many as there are and the stage can take.
ALL = "all"

#: A count as params.yaml states it, to be annotated with `between`.
Images = int | str


def between(least: int, most: int) -> BeforeValidator:
    """A validator that takes whole numbers within bounds, or `all`."""

    def check(value: object) -> object:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if value != ALL and not (whole and least <= value <= most):  # type: ignore[operator]
            raise PydanticCustomError("count", f"Input should be a whole number from {least} to {most}, or 'all'")
        return value

    return BeforeValidator(check)


def fitting(name: str, wanted: Images, greatest: int, most: int, *, least: int = 1, of: str = "images") -> int:
    """Returns how many are taken; of `all` at most `most`, and metrics state how many it was.

    Args:
        name: The parameter, as `refine.images`.
        wanted: Its value.
        greatest: As many as the data have.
        most: As many as the stage can take.
        least: As few as it can take.
        of: What is counted.

    Raises:
        StageError: If it is more than there are or than the stage can take, or there are too few.
    """
    fits = min(greatest, most)
    count = fits if wanted == ALL else int(wanted)
    if greatest < least:
        raise StageError(f"{name} = {wanted!r}: there are {greatest} {of}, but {least} at least are needed")
    if count > fits:
        why = f"as there are {greatest} {of}" if greatest <= most else "the most that it takes"
        raise StageError(f"{name} = {wanted!r}: it should be at most {fits}, {why}")
    return count
