"""Base of what servers report: fields that can be read, compared, printed and pickled, and not changed."""

from typing import Any, ClassVar, Dict, List, Mapping, Type, TypeVar
from xml.sax.saxutils import escape

R = TypeVar("R", bound="Record")


class Record:
    """Fields by name. Subclasses name them in ``_defaults`` and offer a property for each."""

    #: The element that ``str`` puts around the fields.
    _root: ClassVar[str] = "Record"

    def __init__(self) -> None:
        """One whose fields are zero or empty."""
        self._values: Dict[str, Any] = self._defaults()

    @classmethod
    def _defaults(cls) -> Dict[str, Any]:
        raise NotImplementedError

    @classmethod
    def _read(cls, struct: Mapping[str, Any]) -> Dict[str, Any]:
        """The fields in a struct from the wire; those that it lacks keep their defaults."""
        raise NotImplementedError

    @classmethod
    def _of(cls: Type[R], struct: Mapping[str, Any]) -> R:
        """What a struct from the wire says."""
        record = cls()
        record._values.update(cls._read(struct))
        return record

    def _text(self, name: str) -> str:
        value: str = self._values[name]
        return value

    def _number(self, name: str) -> int:
        value: int = self._values[name]
        return value

    def _flag(self, name: str) -> bool:
        value: bool = self._values[name]
        return value

    def __eq__(self, other: object) -> bool:
        """Whether class and all fields are the same."""
        if type(self) is not type(other):
            return NotImplemented
        return self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        """All fields as XML."""
        return document(self._root, self._values)

    __repr__ = __str__


def document(root: str, values: Mapping[str, Any]) -> str:
    """An XML document whose element ``root`` holds the values.

    It lies two levels deep, where readers of the original's text look for it.
    """
    lines = ['<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>', "<boost_serialization>"]
    lines += element(root, values, "")
    return "\n".join([*lines, "</boost_serialization>", ""])


def element(name: str, value: Any, indent: str) -> List[str]:
    """Lines of one element; what is ``None`` gives none."""
    if value is None:
        return []
    if isinstance(value, Record):
        value = value._values
    if isinstance(value, Mapping):
        inner = [line for key in value for line in element(str(key), value[key], indent + "  ")]
        return [f"{indent}<{name}>", *inner, f"{indent}</{name}>"]
    if isinstance(value, (list, tuple)):
        inner = [line for item in value for line in element("item", item, indent + "  ")]
        return [f"{indent}<{name}>", *inner, f"{indent}</{name}>"]
    if isinstance(value, bool):
        value = int(value)
    return [f"{indent}<{name}>{escape(str(value))}</{name}>"]
