"""What clients of registries have in common: the configuration store, and the vPool of a cluster in it."""

import json
import ssl
from typing import Any, Dict, Iterable, Optional

from . import wire
from .contacts import ArakoonNodeConfig
from .store import TIMEOUT_SECS, Store

VPOOLS = "/ovs/vpools/"


def store(
    node_configs: Iterable[ArakoonNodeConfig],
    timeout_secs: int = TIMEOUT_SECS,
    tls: Optional[ssl.SSLContext] = None,
) -> Store:
    """The configuration store whose members these are; with ``tls`` connections are encrypted."""
    members = list(node_configs)
    for member in members:
        if not isinstance(member, ArakoonNodeConfig):
            raise TypeError(f"node configs must be ArakoonNodeConfig, not {type(member).__name__}")
    if not members:
        raise RuntimeError("give at least one member of the configuration store")
    return Store([(member.host, member.port) for member in members], tls, timeout_secs)


def vpool_of(store: Store, cluster_id: str) -> str:
    """The folder of a cluster's vPool, with ``/`` at its end.

    A cluster has the id of its vPool, unless its documents give it another.
    """
    wire.text_argument("the cluster id", cluster_id)
    if not cluster_id or "/" in cluster_id:
        raise RuntimeError(f"{cluster_id!r} is no id of a cluster")
    own = f"{VPOOLS}{cluster_id}/"
    if store.below(own, keys_only=True):
        return own
    for pair in store.below(VPOOLS, keys_only=True):
        if pair.key.endswith("/config/volume_router_cluster"):
            document = store.get(pair.key)
            described = read(document.value) if document is not None else {}
            if described.get("vrouter_cluster_id") == cluster_id:
                return VPOOLS + pair.key[len(VPOOLS) :].split("/", 1)[0] + "/"
    return own


def read(content: Optional[bytes]) -> Dict[str, Any]:
    """A JSON object; what is none counts as an empty one."""
    try:
        found = json.loads(content or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
