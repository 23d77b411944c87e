"""Addresses: whom a client asks, members of the configuration store, nodes of a cluster."""

from typing import Any, ClassVar, Dict, Mapping, Optional, Tuple

from . import wire


def port_number(name: str, value: object) -> int:
    """A port, 0 to 65535."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 0 <= value <= 65535:
        raise OverflowError(f"{name} must be 0 to 65535, not {value}")
    return value


class Fields:
    """Base of what is its fields: a property for each, which are compared and shown."""

    #: Names of the properties.
    _names: ClassVar[Tuple[str, ...]]

    def _fields(self) -> Dict[str, Any]:
        return {name: getattr(self, name) for name in self._names}

    def __eq__(self, other: object) -> bool:
        """Whether class and all fields are the same."""
        if type(self) is not type(other):
            return NotImplemented
        assert isinstance(other, Fields)
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        """Equal ones have equal hashes."""
        return hash(tuple(value for value in self._fields().values() if not isinstance(value, dict)))

    def __str__(self) -> str:
        """Class and all fields."""
        return f"{type(self).__name__}({', '.join(f'{key}={value}' for key, value in self._fields().items())})"

    def __repr__(self) -> str:
        """As ``str``."""
        return str(self)


class ClusterContact(Fields):
    """A node that can be asked: its host and the port of its admin RPC."""

    _names = ("host", "port")

    def __init__(self, host: str, port: int) -> None:
        """Keeps both; nothing is connected."""
        self._host = wire.text_argument("host", host)
        self._port = port_number("port", port)

    @property
    def host(self) -> str:
        """Name or address."""
        return self._host

    @property
    def port(self) -> int:
        """Port of the admin RPC."""
        return self._port

    def __str__(self) -> str:
        """Class and address."""
        return f"ClusterContact({self._host}:{self._port})"


class ArakoonNodeConfig(Fields):
    """A member of the store that holds the cluster's registries. Here that is the configuration store: etcd's API."""

    _names = ("node_id", "host", "port")

    def __init__(self, node_id: str, host: str, port: int) -> None:
        """Keeps all three; nothing is connected."""
        self._node_id = wire.text_argument("node_id", node_id)
        self._host = wire.text_argument("host", host)
        self._port = port_number("port", port)

    @property
    def node_id(self) -> str:
        """Name of the member; not used to reach it."""
        return self._node_id

    @property
    def host(self) -> str:
        """Name or address."""
        return self._host

    @property
    def port(self) -> int:
        """Client port of the member."""
        return self._port

    def __str__(self) -> str:
        """Name and address."""
        return f"ArakoonNodeConfig({self._node_id},{self._host}:{self._port})"


class ClusterNodeConfig(Fields):
    """How a node of a cluster is reached."""

    _names = (
        "vrouter_id",
        "message_host",
        "message_port",
        "xmlrpc_host",
        "xmlrpc_port",
        "failovercache_host",
        "failovercache_port",
        "network_server_uri",
        "node_distance_map",
    )

    def __init__(
        self,
        vrouter_id: str,
        host: str,
        message_port: int,
        xmlrpc_port: int,
        failovercache_port: int,
        network_server_uri: Optional[str] = None,
        xmlrpc_host: Optional[str] = None,
        failovercache_host: Optional[str] = None,
        node_distance_map: Optional[Mapping[str, int]] = None,
    ) -> None:
        """Keeps all; hosts that are not given are ``host``. An empty ``vrouter_id`` is a ``RuntimeError``."""
        if not wire.text_argument("vrouter_id", vrouter_id):
            raise RuntimeError("vrouter_id must not be empty")
        self._vrouter_id = vrouter_id
        self._message_host = wire.text_argument("host", host)
        self._message_port = port_number("message_port", message_port)
        self._xmlrpc_port = port_number("xmlrpc_port", xmlrpc_port)
        self._failovercache_port = port_number("failovercache_port", failovercache_port)
        self._network_server_uri = network_server_uri
        if network_server_uri is not None:
            wire.text_argument("network_server_uri", network_server_uri)
        self._xmlrpc_host = host if xmlrpc_host is None else wire.text_argument("xmlrpc_host", xmlrpc_host)
        dtl = failovercache_host
        self._failovercache_host = host if dtl is None else wire.text_argument("failovercache_host", dtl)
        self._node_distance_map = None if node_distance_map is None else distances(node_distance_map)

    @property
    def vrouter_id(self) -> str:
        """Identity of the node."""
        return self._vrouter_id

    @property
    def host(self) -> str:
        """Where nodes talk to each other; the same as ``message_host``."""
        return self._message_host

    @property
    def message_host(self) -> str:
        """Where nodes talk to each other."""
        return self._message_host

    @property
    def message_port(self) -> int:
        """Port on which nodes talk to each other."""
        return self._message_port

    @property
    def xmlrpc_host(self) -> str:
        """Where the admin RPC listens."""
        return self._xmlrpc_host

    @property
    def xmlrpc_port(self) -> int:
        """Port of the admin RPC."""
        return self._xmlrpc_port

    @property
    def failovercache_host(self) -> str:
        """Where the DTL listens."""
        return self._failovercache_host

    @property
    def failovercache_port(self) -> int:
        """Port of the DTL."""
        return self._failovercache_port

    @property
    def network_server_uri(self) -> Optional[str]:
        """Where clients of volumes connect."""
        return self._network_server_uri

    @property
    def node_distance_map(self) -> Optional[Dict[str, int]]:
        """How far other nodes are; clients of volumes fail over to the nearest."""
        return None if self._node_distance_map is None else dict(self._node_distance_map)

    @staticmethod
    def _of(fields: Mapping[str, Any]) -> "ClusterNodeConfig":
        """One from its fields; a ``RuntimeError`` when they cannot be read."""
        uri = wire.maybe(fields, "network_server_uri")
        distance = wire.maybe(fields, "node_distance_map")
        host = wire.text(fields, "message_host") or wire.text(fields, "host")
        try:
            return ClusterNodeConfig(
                vrouter_id=wire.text(fields, "vrouter_id"),
                host=host,
                message_port=wire.numbered(fields, "message_port"),
                xmlrpc_port=wire.numbered(fields, "xmlrpc_port"),
                failovercache_port=wire.numbered(fields, "failovercache_port"),
                network_server_uri=None if uri is None else str(uri),
                xmlrpc_host=wire.text(fields, "xmlrpc_host") or None,
                failovercache_host=wire.text(fields, "failovercache_host") or None,
                node_distance_map=distance,
            )
        except (TypeError, OverflowError) as error:
            raise RuntimeError(f"a node's address cannot be read: {error}") from None


def distances(given: Mapping[str, int]) -> Dict[str, int]:
    """Distances to nodes, checked."""
    if not isinstance(given, Mapping):
        raise TypeError(f"node_distance_map must be a dict, not {type(given).__name__}")
    return {
        wire.text_argument("a node of node_distance_map", node): int(wire.number_argument("a distance", distance))
        for node, distance in given.items()
    }
