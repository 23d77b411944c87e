"""Where the map of a volume is kept besides its node."""

from typing import Any, Dict, Iterable, List, Mapping, Optional

from . import wire
from .contacts import ArakoonNodeConfig, port_number
from .enums import ApplyRelocationsToSlaves


class MDSNodeConfig:
    """The address of a metadata server."""

    def __init__(self, address: str, port: int) -> None:
        """Keeps both; nothing is connected."""
        self._address = wire.text_argument("address", address)
        self._port = port_number("port", port)

    def address(self) -> str:
        """Name or address of its host."""
        return self._address

    def port(self) -> int:
        """Its port."""
        return self._port

    def __eq__(self, other: object) -> bool:
        """Whether both are the same."""
        if not isinstance(other, MDSNodeConfig):
            return NotImplemented
        return (self._address, self._port) == (other._address, other._port)

    def __hash__(self) -> int:
        """Equal ones have equal hashes."""
        return hash((self._address, self._port))

    def __repr__(self) -> str:
        """Class and address."""
        return f"MDSNodeConfig({self._address}:{self._port})"


class MetaDataBackendConfig:
    """Base of all."""

    def _struct(self) -> Dict[str, Any]:
        """As the wire wants it."""
        raise TypeError("MetaDataBackendConfig is only a base; use one of its subclasses")

    def __eq__(self, other: object) -> bool:
        """Whether kind and fields are the same."""
        if not isinstance(other, MetaDataBackendConfig):
            return NotImplemented
        return self._struct() == other._struct()

    __hash__ = None  # type: ignore[assignment]


class MDSMetaDataBackendConfig(MetaDataBackendConfig):
    """Metadata servers; the first one is the master."""

    def __init__(
        self,
        mds_node_configs: Iterable[MDSNodeConfig],
        apply_relocations_to_slaves: ApplyRelocationsToSlaves = ApplyRelocationsToSlaves.T,
        timeout_secs: int = 20,
        max_tlogs_behind: Optional[int] = None,
    ) -> None:
        """An empty list or a time-out of 0 is a ``RuntimeError``."""
        self._node_configs = list(mds_node_configs)
        for node in self._node_configs:
            if not isinstance(node, MDSNodeConfig):
                raise TypeError(f"mds_node_configs must hold MDSNodeConfig, not {type(node).__name__}")
        if not self._node_configs:
            raise RuntimeError("mds_node_configs must not be empty")
        wire.enum_argument("apply_relocations_to_slaves", ApplyRelocationsToSlaves, apply_relocations_to_slaves)
        wire.number_argument("timeout_secs", timeout_secs)
        if timeout_secs == 0:
            raise RuntimeError("timeout_secs must be at least 1")
        if max_tlogs_behind is not None:
            wire.number_argument("max_tlogs_behind", max_tlogs_behind)
        self._apply_relocations_to_slaves = apply_relocations_to_slaves
        self._timeout_secs = timeout_secs
        self._max_tlogs_behind = max_tlogs_behind

    def node_configs(self) -> List[MDSNodeConfig]:
        """The servers; the first one is the master."""
        return list(self._node_configs)

    def apply_relocations_to_slaves(self) -> ApplyRelocationsToSlaves:
        """Whether slaves get the relocations of a scrub."""
        return self._apply_relocations_to_slaves

    def timeout_secs(self) -> int:
        """How long a server may take, in seconds."""
        return self._timeout_secs

    def max_tlogs_behind(self) -> Optional[int]:
        """How many TLogs a slave may lack and still take over."""
        return self._max_tlogs_behind

    def _struct(self) -> Dict[str, Any]:
        struct: Dict[str, Any] = {
            "type": "MDS",
            "node_configs": [{"address": n.address(), "port": str(n.port())} for n in self._node_configs],
            "apply_relocations_to_slaves": wire.flag_argument(self._apply_relocations_to_slaves),
            "timeout_secs": str(self._timeout_secs),
        }
        if self._max_tlogs_behind is not None:
            struct["max_tlogs_behind"] = str(self._max_tlogs_behind)
        return struct


class ArakoonMetaDataBackendConfig(MetaDataBackendConfig):
    """A cluster of Arakoon. Known so that programs which name it run; servers here refuse it."""

    def __init__(self, ara_cluster_id: str, ara_node_configs: Iterable[ArakoonNodeConfig]) -> None:
        """Keeps both."""
        self._cluster_id = wire.text_argument("ara_cluster_id", ara_cluster_id)
        self._node_configs = list(ara_node_configs)

    def cluster_id(self) -> str:
        """Name of the cluster."""
        return self._cluster_id

    def node_configs(self) -> List[ArakoonNodeConfig]:
        """Its members."""
        return list(self._node_configs)

    def _struct(self) -> Dict[str, Any]:
        nodes = [{"node_id": n.node_id, "host": n.host, "port": str(n.port)} for n in self._node_configs]
        return {"type": "Arakoon", "cluster_id": self._cluster_id, "node_configs": nodes}


class RocksDBMetaDataBackendConfig(MetaDataBackendConfig):
    """A local RocksDB. Known so that programs which name it run."""

    def __init__(self) -> None:
        """Takes nothing: it is local to the node."""

    def _struct(self) -> Dict[str, Any]:
        return {"type": "RocksDB"}


class TCBTMetaDataBackendConfig(MetaDataBackendConfig):
    """A local Tokyo Cabinet. Known so that programs which name it run."""

    def __init__(self) -> None:
        """Takes nothing: it is local to the node."""

    def _struct(self) -> Dict[str, Any]:
        return {"type": "TCBT"}


def of_struct(struct: Any) -> Optional[MetaDataBackendConfig]:
    """What a struct from the wire says; ``None`` when there is none."""
    if not isinstance(struct, Mapping) or not struct:
        return None
    kind = wire.text(struct, "type").upper()
    nodes = wire.array(struct.get("node_configs", []), "node_configs")
    try:
        if kind == "MDS":
            return MDSMetaDataBackendConfig(
                [MDSNodeConfig(wire.text(n, "address"), wire.numbered(n, "port")) for n in nodes],
                ApplyRelocationsToSlaves(int(wire.flagged(struct, "apply_relocations_to_slaves", True))),
                wire.numbered(struct, "timeout_secs", 20),
                wire.maybe_number(struct, "max_tlogs_behind"),
            )
        if kind == "ARAKOON":
            return ArakoonMetaDataBackendConfig(
                wire.text(struct, "cluster_id"),
                [
                    ArakoonNodeConfig(wire.text(n, "node_id"), wire.text(n, "host"), wire.numbered(n, "port"))
                    for n in nodes
                ],
            )
    except (TypeError, OverflowError, AttributeError) as error:
        raise RuntimeError(f"metadata_backend_config cannot be read: {error}") from None
    if kind == "ROCKSDB":
        return RocksDBMetaDataBackendConfig()
    if kind == "TCBT":
        return TCBTMetaDataBackendConfig()
    raise wire.bad("metadata_backend_config", struct)
