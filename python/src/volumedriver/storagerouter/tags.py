"""Numbers with a meaning, which are no plain numbers."""

from typing import Any

#: One more than the largest.
LIMIT = 1 << 64


class Tag:
    """A number of 64 bits that can be compared, printed and pickled, and nothing else."""

    def __init__(self, number: int) -> None:
        """Keeps the number, 0 to 2^64-1."""
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{type(self).__name__} takes an int, not {type(number).__name__}")
        if not 0 <= number < LIMIT:
            raise OverflowError(f"{type(self).__name__} takes 0 to 2^64-1, not {number}")
        self._tag = number

    def __eq__(self, other: object) -> bool:
        """Whether both are the same kind of tag, and equal."""
        if type(self) is not type(other):
            return NotImplemented
        return self._tag == other._tag

    def __hash__(self) -> int:
        """Equal tags have equal hashes."""
        return hash((type(self).__name__, self._tag))

    def __repr__(self) -> str:
        """Class and number, as ``OwnerTag(7)``."""
        return f"{type(self).__name__}({self._tag})"

    def __reduce__(self) -> Any:
        """Pickled as its number."""
        return type(self), (self._tag,)


class OwnerTag(Tag):
    """Which ownership of an object; a new owner has a larger one."""


class ClusterCacheHandle(Tag):
    """Which part of the read cache."""


def wire_text(tag: Tag) -> str:
    """A tag as the wire wants it."""
    return str(tag._tag)
