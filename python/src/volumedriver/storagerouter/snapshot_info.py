"""What is to be known of a snapshot."""

from typing import Any, Dict, Mapping

from . import wire
from .records import Record


class SnapshotInfo(Record):
    """Name, time, size and state of a snapshot."""

    _root = "XMLRPCSnapshotInfo"

    @classmethod
    def _defaults(cls) -> Dict[str, Any]:
        texts = dict.fromkeys(("snapshot_id", "timestamp", "uuid"), "")
        return {**texts, "stored": 0, "in_backend": False, "metadata": ""}

    @classmethod
    def _read(cls, struct: Mapping[str, Any]) -> Dict[str, Any]:
        values: Dict[str, Any] = {
            name: wire.text(struct, name) for name in ("snapshot_id", "timestamp", "uuid", "metadata")
        }
        values["stored"] = wire.numbered(struct, "stored")
        values["in_backend"] = wire.flagged(struct, "in_backend")
        return values

    @property
    def snapshot_id(self) -> str:
        """Its name."""
        return self._text("snapshot_id")

    @property
    def timestamp(self) -> str:
        """When it was made, as C's ``ctime`` writes it, with the line feed at its end."""
        return self._text("timestamp")

    @property
    def uuid(self) -> str:
        """Its UUID."""
        return self._text("uuid")

    @property
    def stored(self) -> int:
        """Bytes on the backend since the snapshot before."""
        return self._number("stored")

    @property
    def metadata(self) -> str:
        """What was given along when it was made. Bytes that are no UTF-8 are surrogates (``surrogateescape``)."""
        return self._text("metadata")

    @property
    def in_backend(self) -> bool:
        """Whether all of it is on the backend."""
        return self._flag("in_backend")
