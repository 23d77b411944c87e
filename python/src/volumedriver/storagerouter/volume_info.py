"""What is to be known of a volume."""

from typing import Any, Dict, Mapping, Optional

from . import metadata_backend, wire
from .enums import ObjectType
from .metadata_backend import MetaDataBackendConfig
from .records import Record
from .tags import ClusterCacheHandle, OwnerTag

TEXTS = ("volume_id", "namespace", "parent_namespace", "parent_snapshot_id")
NUMBERS = ("volume_size", "lba_size", "lba_count", "cluster_multiplier", "sco_multiplier")


class VolumeInfo(Record):
    """Size, place, parent and state of a volume or template. All fields are properties of the class."""

    _root = "XMLRPCVolumeInfo"

    @classmethod
    def _defaults(cls) -> Dict[str, Any]:
        defaults: Dict[str, Any] = dict.fromkeys(TEXTS, "")
        defaults.update(dict.fromkeys(NUMBERS, 0))
        defaults.update(failover_mode="", failover_ip="", failover_port=0, halted=False, footprint=0, stored=0)
        defaults.update(object_type=ObjectType.FILE, parent_volume_id="", vrouter_id="")
        defaults.update(metadata_backend_config=None, owner_tag=OwnerTag(0))
        defaults.update(cluster_cache_handle=ClusterCacheHandle(0), cluster_cache_limit=None)
        return defaults

    @classmethod
    def _read(cls, struct: Mapping[str, Any]) -> Dict[str, Any]:
        values: Dict[str, Any] = {name: wire.text(struct, name) for name in TEXTS}
        values["namespace"] = wire.text(struct, "_namespace_") or wire.text(struct, "namespace")
        values.update({name: wire.numbered(struct, name) for name in (*NUMBERS, "failover_port", "footprint")})
        values.update({name: wire.text(struct, name) for name in ("failover_mode", "failover_ip")})
        values.update({name: wire.text(struct, name) for name in ("parent_volume_id", "vrouter_id")})
        values["halted"] = wire.flagged(struct, "halted")
        values["stored"] = wire.numbered(struct, "stored")
        kind = wire.maybe_enum(ObjectType, struct, "object_type")
        values["object_type"] = ObjectType.FILE if kind is None else kind
        values["metadata_backend_config"] = metadata_backend.of_struct(struct.get("metadata_backend_config"))
        values["owner_tag"] = OwnerTag(wire.numbered(struct, "owner_tag"))
        values["cluster_cache_handle"] = ClusterCacheHandle(wire.numbered(struct, "cluster_cache_handle"))
        values["cluster_cache_limit"] = wire.maybe_number(struct, "cluster_cache_limit")
        return values

    @property
    def volume_id(self) -> str:
        """Id of the volume."""
        return self._text("volume_id")

    @property
    def namespace(self) -> str:
        """Where its data are on the backend."""
        return self._text("namespace")

    @property
    def parent_namespace(self) -> str:
        """Namespace of what it was cloned from; empty if it is no clone."""
        return self._text("parent_namespace")

    @property
    def parent_snapshot_id(self) -> str:
        """Snapshot that it was cloned from; empty if it is no clone, or one of a template."""
        return self._text("parent_snapshot_id")

    @property
    def volume_size(self) -> int:
        """Size in bytes."""
        return self._number("volume_size")

    @property
    def lba_size(self) -> int:
        """Size of a logical block in bytes."""
        return self._number("lba_size")

    @property
    def lba_count(self) -> int:
        """Size in logical blocks."""
        return self._number("lba_count")

    @property
    def cluster_multiplier(self) -> int:
        """Size of a cluster in logical blocks."""
        return self._number("cluster_multiplier")

    @property
    def sco_multiplier(self) -> int:
        """Size of an SCO in clusters."""
        return self._number("sco_multiplier")

    @property
    def failover_mode(self) -> str:
        """State of the DTL: ``OK_SYNC``, ``OK_STANDALONE``, ``CATCHUP`` or ``DEGRADED``."""
        return self._text("failover_mode")

    @property
    def failover_ip(self) -> str:
        """Host of the DTL; empty if there is none."""
        return self._text("failover_ip")

    @property
    def failover_port(self) -> int:
        """Port of the DTL; 0 if there is none."""
        return self._number("failover_port")

    @property
    def halted(self) -> bool:
        """Whether it stopped itself because it cannot keep its promises."""
        return self._flag("halted")

    @property
    def footprint(self) -> int:
        """Clusters in the read cache."""
        return self._number("footprint")

    @property
    def stored(self) -> int:
        """Bytes that it takes where its data are kept."""
        return self._number("stored")

    @property
    def object_type(self) -> ObjectType:
        """Volume or template."""
        value: ObjectType = self._values["object_type"]
        return value

    @property
    def parent_volume_id(self) -> str:
        """What it was cloned from; empty if it is no clone."""
        return self._text("parent_volume_id")

    @property
    def vrouter_id(self) -> str:
        """The node that it runs on."""
        return self._text("vrouter_id")

    @property
    def metadata_backend_config(self) -> Optional[MetaDataBackendConfig]:
        """Where its map is kept besides its node; ``None``: nowhere."""
        value: Optional[MetaDataBackendConfig] = self._values["metadata_backend_config"]
        return value

    @property
    def cluster_cache_handle(self) -> ClusterCacheHandle:
        """Its part of the read cache."""
        value: ClusterCacheHandle = self._values["cluster_cache_handle"]
        return value

    @property
    def owner_tag(self) -> OwnerTag:
        """Which ownership this is."""
        value: OwnerTag = self._values["owner_tag"]
        return value

    @property
    def cluster_cache_limit(self) -> Optional[int]:
        """Most clusters in the read cache; ``None``: no limit of its own."""
        value: Optional[int] = self._values["cluster_cache_limit"]
        return value
