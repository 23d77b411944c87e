"""What is to be known of a node: who is connected, its SCO cache, its scrubs, its read cache."""

from typing import Any, Dict, List, Mapping, Optional

from . import wire
from .contacts import Fields, port_number
from .records import Record


class ClientInfo(Fields):
    """A connection of a client of volumes."""

    _names = ("object_id", "ip", "port")

    def __init__(self, object_id: Optional[str], ip: str, port: int) -> None:
        """``object_id`` is ``None`` while the client has chosen no volume."""
        self._object_id = None if object_id is None else wire.text_argument("object_id", object_id)
        self._ip = wire.text_argument("ip", ip)
        self._port = port_number("port", port)

    @property
    def object_id(self) -> Optional[str]:
        """The volume; ``None``: none yet."""
        return self._object_id

    @property
    def ip(self) -> str:
        """Address of the client."""
        return self._ip

    @property
    def port(self) -> int:
        """Port of the client."""
        return self._port

    @staticmethod
    def _of(struct: Mapping[str, Any]) -> "ClientInfo":
        found = wire.maybe(struct, "object_id")
        return ClientInfo(None if found is None else str(found), wire.text(struct, "ip"), wire.numbered(struct, "port"))


class SCOCacheMountPointInfo(Record):
    """A directory of the SCO cache. Only servers make them."""

    _root = "SCOCacheMountPointInfo"

    def __init__(self) -> None:
        """Refused: the binding of the original has no constructor either."""
        raise RuntimeError("This class cannot be instantiated from Python")

    @classmethod
    def _defaults(cls) -> Dict[str, Any]:
        return {"path": "", "capacity": 0, "free": 0, "used": 0, "choking": False, "offlined": False}

    @classmethod
    def _of(cls, struct: Mapping[str, Any]) -> "SCOCacheMountPointInfo":
        info = cls.__new__(cls)
        info._values = {
            "path": wire.text(struct, "path"),
            "capacity": size(struct, "max_size"),
            "free": size(struct, "free"),
            "used": size(struct, "used"),
            "choking": wire.flagged(struct, "choking"),
            "offlined": wire.flagged(struct, "offlined"),
        }
        return info

    @property
    def path(self) -> str:
        """Where it is on the node."""
        return self._text("path")

    @property
    def capacity(self) -> int:
        """Bytes that it may take."""
        return self._number("capacity")

    @property
    def free(self) -> int:
        """Bytes that are free."""
        return self._number("free")

    @property
    def used(self) -> int:
        """Bytes that are taken."""
        return self._number("used")

    @property
    def choking(self) -> bool:
        """Whether writes are slowed down because it is nearly full."""
        return self._flag("choking")

    @property
    def offlined(self) -> bool:
        """Whether it is out of use because its disk failed."""
        return self._flag("offlined")


#: Bytes in the units of dimensioned sizes.
UNITS: Dict[str, int] = {"": 1, "B": 1}
UNITS.update({f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", 1)})
UNITS.update({f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", 1)})


def size(struct: Mapping[str, Any], key: str) -> int:
    """A size in bytes, from a number or a text with a unit."""
    value = wire.text(struct, key, "0").strip()
    digits = len(value) - len(value.lstrip("0123456789"))
    unit = UNITS.get(value[digits:].strip())
    if not digits or unit is None:
        raise wire.bad(key, value)
    return int(value[:digits]) * unit


class ScrubManagerCounters(Record):
    """What became of scrub results, since the node started."""

    _root = "ScrubManagerCounters"

    @classmethod
    def _defaults(cls) -> Dict[str, Any]:
        return {"parent_scrubs_ok": 0, "parent_scrubs_nok": 0, "clone_scrubs_ok": 0, "clone_scrubs_nok": 0}

    @classmethod
    def _read(cls, struct: Mapping[str, Any]) -> Dict[str, Any]:
        return {name: wire.numbered(struct, name) for name in cls._defaults()}

    @property
    def parent_scrubs_ok(self) -> int:
        """Results that were applied to the volume that was scrubbed."""
        return self._number("parent_scrubs_ok")

    @property
    def parent_scrubs_nok(self) -> int:
        """Results that could not be applied to the volume that was scrubbed."""
        return self._number("parent_scrubs_nok")

    @property
    def clone_scrubs_ok(self) -> int:
        """Results that were applied to clones."""
        return self._number("clone_scrubs_ok")

    @property
    def clone_scrubs_nok(self) -> int:
        """Results that could not be applied to clones."""
        return self._number("clone_scrubs_nok")


class ClusterCacheHandleInfo(Record):
    """A part of the read cache."""

    _root = "XMLRPCClusterCacheHandleInfo"

    @classmethod
    def _defaults(cls) -> Dict[str, Any]:
        return {"cluster_cache_handle": 0, "entries": 0, "max_entries": None, "map_stats": []}

    @classmethod
    def _read(cls, struct: Mapping[str, Any]) -> Dict[str, Any]:
        stats = wire.array(struct.get("map_stats", []), "map_stats")
        return {
            "cluster_cache_handle": wire.numbered(struct, "cluster_cache_handle"),
            "entries": wire.numbered(struct, "entries"),
            "max_entries": wire.maybe_number(struct, "max_entries"),
            "map_stats": [wire.number(value, "map_stats") for value in stats],
        }

    @property
    def cluster_cache_handle(self) -> int:
        """Which part."""
        return self._number("cluster_cache_handle")

    @property
    def entries(self) -> int:
        """Clusters in it."""
        return self._number("entries")

    @property
    def max_entries(self) -> Optional[int]:
        """Most clusters in it; ``None``: no limit."""
        value: Optional[int] = self._values["max_entries"]
        return value

    @property
    def map_stats(self) -> List[int]:
        """Entries by the length of their chain in the map."""
        return list(self._values["map_stats"])
