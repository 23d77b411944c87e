"""Which nodes a cluster has, as its operators registered them."""

import json
import ssl
from typing import Any, Dict, Iterable, List, Optional

from . import registries, wire
from .contacts import ArakoonNodeConfig, ClusterNodeConfig
from .enums import ClusterNodeState
from .store import Compare, Pair, Write

#: The list, below the vPool's folder.
KEY = "cluster_configuration"

#: Tries against others who change the list.
TRIES = 8


class ClusterRegistry:
    """The registered nodes of a cluster, in the configuration store."""

    def __init__(
        self,
        vfs_cluster_id: str,
        ara_cluster_id: str,
        ara_node_configs: Iterable[ArakoonNodeConfig],
        ara_timeout_secs: int = 60,
        *,
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        """Connects to nobody.

        ``ara_node_configs`` are members of the configuration store (etcd's API); ``ara_cluster_id`` is not used. With
        ``tls`` connections to them are encrypted.
        """
        self._cluster_id = wire.text_argument("vfs_cluster_id", vfs_cluster_id)
        wire.text_argument("ara_cluster_id", ara_cluster_id)
        wire.number_argument("ara_timeout_secs", ara_timeout_secs)
        self._store = registries.store(ara_node_configs, ara_timeout_secs, tls)

    def set_node_configs(self, cluster_node_configs: Iterable[ClusterNodeConfig]) -> None:
        """Replace the list. Nodes that were in it keep their state, others are online.

        An empty list, a node that is in it twice, and a distance to a node that is not in it are a ``RuntimeError``.
        """
        configs = list(cluster_node_configs)
        check(configs)
        key = self._key()
        for _ in range(TRIES):
            pair = self._store.get(key)
            states = {} if pair is None else {n["vrouter_id"]: n.get("state") for n in nodes(pair)}
            listed = [{**config._fields(), "state": states.get(config.vrouter_id) or "ONLINE"} for config in configs]
            value = json.dumps({"nodes": listed}).encode()
            if self._store.transact([Compare(key, 0 if pair is None else pair.mod_revision)], [Write(key, value)]):
                return
        raise RuntimeError(f"the registration of {self._cluster_id} keeps changing; try again")

    def get_node_configs(self) -> List[ClusterNodeConfig]:
        """Tell the list. A cluster that has none is a ``RuntimeError``."""
        return [ClusterNodeConfig._of(node) for node in self._nodes()]

    def erase_node_configs(self) -> None:
        """Forget the list. None is fine."""
        self._store.transact([], [Write(self._key(), None)])

    def get_node_status_map(self) -> Dict[str, ClusterNodeState]:
        """Tell the registered state of each node."""
        return {
            wire.text(node, "vrouter_id"): wire.enum(ClusterNodeState, node.get("state", "ONLINE"), "state")
            for node in self._nodes()
        }

    def _key(self) -> str:
        return registries.vpool_of(self._store, self._cluster_id) + KEY

    def _nodes(self) -> List[Dict[str, Any]]:
        pair = self._store.get(self._key())
        if pair is None:
            raise RuntimeError(f"cluster not registered {self._cluster_id}")
        return nodes(pair)


def nodes(pair: Pair) -> List[Dict[str, Any]]:
    """The nodes in a stored list."""
    found: Optional[Any] = registries.read(pair.value).get("nodes")
    if not isinstance(found, list) or not all(isinstance(n, dict) and n.get("vrouter_id") for n in found):
        raise RuntimeError(f"{pair.key} holds no list of nodes")
    return found


def check(configs: List[ClusterNodeConfig]) -> None:
    """Whether these can be the nodes of a cluster."""
    for config in configs:
        if not isinstance(config, ClusterNodeConfig):
            raise TypeError(f"cluster_node_configs must hold ClusterNodeConfig, not {type(config).__name__}")
    ids = [config.vrouter_id for config in configs]
    if not ids:
        raise RuntimeError("a cluster has at least one node")
    twice = sorted({node for node in ids if ids.count(node) > 1})
    if twice:
        raise RuntimeError(f"the node {twice[0]} is in the list twice")
    for config in configs:
        unknown = sorted(set(config.node_distance_map or {}) - set(ids))
        if unknown:
            raise RuntimeError(f"{config.vrouter_id} has a distance to {unknown[0]}, which is not in the list")
