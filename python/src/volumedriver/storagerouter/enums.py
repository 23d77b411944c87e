"""Enumerations as the original's binding made them.

A member is an ``int`` whose text is its bare name. A class has ``names`` (name to member) and ``values`` (number to
member). They are no :class:`enum.Enum`: iterating over a class, or comparing a member with a plain number, behaves as
users of the original know it.
"""

from typing import Any, ClassVar, Dict, Optional, TypeVar

E = TypeVar("E", bound="Enumeration")


class Enumeration(int):
    """Base of all enumerations. ``Severity(3)`` is ``Severity.info``; a number without a name is kept as it is."""

    names: ClassVar[Dict[str, Any]] = {}
    values: ClassVar[Dict[int, Any]] = {}
    __slots__ = ()

    def __init_subclass__(cls, numbers: Optional[Dict[str, int]] = None) -> None:
        """Makes the members."""
        cls.names, cls.values = {}, {}
        for name, number in (numbers or {}).items():
            member = int.__new__(cls, number)
            cls.names[name] = member
            cls.values[number] = member
            setattr(cls, name, member)

    def __new__(cls, number: int = 0) -> Any:
        """The member with this number."""
        known = cls.values.get(number)
        return int.__new__(cls, number) if known is None else known

    @property
    def name(self) -> Optional[str]:
        """The bare name; ``None`` for a number that has none."""
        found = (name for name, member in type(self).names.items() if int(member) == int(self))
        return next(found, None)

    def __str__(self) -> str:
        """The bare name, or the number if it has none."""
        return self.name or int.__repr__(self)

    def __format__(self, form: str) -> str:
        """As its text, unless a number is asked for."""
        return format(int(self), form) if form and form[-1] in "bcdoxXneEfFgG%" else format(str(self), form)

    def __repr__(self) -> str:
        """Module, class and name."""
        kind = type(self)
        name = self.name
        tail = f"({int(self)})" if name is None else f".{name}"
        return f"{kind.__module__}.{kind.__qualname__}{tail}"

    def __reduce__(self) -> Any:
        """Pickled as its number."""
        return type(self), (int(self),)


class ObjectType(Enumeration, numbers={"FILE": 0, "BASE": 1, "TEMPLATE": 2}):
    """What an object is: a file, a volume (``BASE``), a template."""

    FILE: ClassVar["ObjectType"]
    BASE: ClassVar["ObjectType"]
    TEMPLATE: ClassVar["ObjectType"]


class ClusterNodeState(Enumeration, numbers={"OFFLINE": 0, "ONLINE": 1}):
    """Whether a node may own volumes."""

    OFFLINE: ClassVar["ClusterNodeState"]
    ONLINE: ClassVar["ClusterNodeState"]


class DTLConfigMode(Enumeration, numbers={"AUTOMATIC": 1, "MANUAL": 2}):
    """Who chooses the DTL of a volume: the node, or whoever configured it."""

    AUTOMATIC: ClassVar["DTLConfigMode"]
    MANUAL: ClassVar["DTLConfigMode"]


class DTLMode(Enumeration, numbers={"ASYNCHRONOUS": 1, "SYNCHRONOUS": 2}):
    """Whether a write waits for the DTL."""

    ASYNCHRONOUS: ClassVar["DTLMode"]
    SYNCHRONOUS: ClassVar["DTLMode"]


class ReadCacheBehaviour(Enumeration, numbers={"CACHE_ON_WRITE": 1, "CACHE_ON_READ": 2, "NO_CACHE": 3}):
    """When a cluster enters the read cache."""

    CACHE_ON_WRITE: ClassVar["ReadCacheBehaviour"]
    CACHE_ON_READ: ClassVar["ReadCacheBehaviour"]
    NO_CACHE: ClassVar["ReadCacheBehaviour"]


class ReadCacheMode(Enumeration, numbers={"CONTENT_BASED": 1, "LOCATION_BASED": 2}):
    """What identifies a cluster in the read cache: its content hash, or its place."""

    CONTENT_BASED: ClassVar["ReadCacheMode"]
    LOCATION_BASED: ClassVar["ReadCacheMode"]


class Role(Enumeration, numbers={"Master": 0, "Slave": 1}):
    """What a metadata server is to a namespace."""

    Master: ClassVar["Role"]
    Slave: ClassVar["Role"]


class ApplyRelocationsToSlaves(Enumeration, numbers={"F": 0, "T": 1}):
    """Whether slaves of the metadata server get the relocations of a scrub."""

    F: ClassVar["ApplyRelocationsToSlaves"]
    T: ClassVar["ApplyRelocationsToSlaves"]


class Severity(
    Enumeration,
    numbers={
        "trace": 0,
        "debug": 1,
        "periodic": 2,
        "info": 3,
        "warning": 4,
        "error": 5,
        "fatal": 6,
        "notification": 7,
    },
):
    """How much a line of the log matters. On the wire ``notification`` is written ``notice``."""

    trace: ClassVar["Severity"]
    debug: ClassVar["Severity"]
    periodic: ClassVar["Severity"]
    info: ClassVar["Severity"]
    warning: ClassVar["Severity"]
    error: ClassVar["Severity"]
    fatal: ClassVar["Severity"]
    notification: ClassVar["Severity"]


class LogRotationType(Enumeration, numbers={"F": 0, "T": 1}):
    """Whether a log file is rotated."""

    F: ClassVar["LogRotationType"]
    T: ClassVar["LogRotationType"]


class DirectoryEntryType(Enumeration, numbers={"DIRECTORY": 0, "VOLUME": 1, "FILE": 2}):
    """What a path leads to."""

    DIRECTORY: ClassVar["DirectoryEntryType"]
    VOLUME: ClassVar["DirectoryEntryType"]
    FILE: ClassVar["DirectoryEntryType"]
