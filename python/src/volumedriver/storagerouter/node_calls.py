"""Calls about nodes and the cluster."""

from typing import Dict, List, Optional

from . import wire
from .enums import ClusterNodeState
from .logger import BuildInfo
from .node_info import ClientInfo, SCOCacheMountPointInfo, ScrubManagerCounters
from .statistics import Statistics
from .volume_calls import Calls


class NodeCalls(Calls):
    """Nodes and the cluster."""

    def statistics_node(self, node_id: str, reset: bool = False, req_timeout_secs: Optional[int] = None) -> Statistics:
        """Tell the counters of all volumes of a node together; with ``reset`` they begin anew."""
        arguments = {"vrouter_id": wire.text_argument("node_id", node_id), "reset": wire.flag_argument(reset)}
        return self._statistics("volumeDriverPerformanceCounters", arguments, req_timeout_secs)

    def list_client_connections(self, node_id: str, req_timeout_secs: Optional[int] = None) -> List[ClientInfo]:
        """List who is connected to the volumes of a node."""
        result = self._of_node("ListClientConnections", node_id, req_timeout_secs)
        clients = wire.array(result, "ListClientConnections")
        return [ClientInfo._of(wire.struct(client, "a client")) for client in clients]

    def server_revision(self, req_timeout_secs: Optional[int] = None) -> str:
        """Tell version and build of the node that answers, in some lines."""
        return str(self._call("revision", {}, req_timeout_secs))

    def client_revision(self) -> str:
        """Tell version and build of this package, in some lines. Asks nobody."""
        return (
            f"version: {BuildInfo.version_revision()}\n"
            f"revision: {BuildInfo.revision()}\n"
            f"build time: {BuildInfo.timestamp()}\n"
        )

    def volume_potential(self, node_id: str, req_timeout_secs: Optional[int] = None) -> int:
        """Tell how many more volumes a node has room for."""
        result = wire.struct(self._of_node("volumePotential", node_id, req_timeout_secs), "volume_potential")
        return wire.number(result.get("volume_potential"), "volume_potential")

    def mark_node_offline(self, node_id: str, req_timeout_secs: Optional[int] = None) -> None:
        """Say that a node is down, so that its volumes can be taken. Raises InvalidOperationException (itself)."""
        self._of_node("markNodeOffline", node_id, req_timeout_secs)

    def mark_node_online(self, node_id: str, req_timeout_secs: Optional[int] = None) -> None:
        """Say that a node is up again."""
        self._of_node("markNodeOnline", node_id, req_timeout_secs)

    def info_cluster(self, req_timeout_secs: Optional[int] = None) -> Dict[str, ClusterNodeState]:
        """Tell the state of each node of the cluster."""
        result = wire.struct(self._call("getNodesStatusMap", {}, req_timeout_secs), "getNodesStatusMap")
        return {
            str(node): wire.enum(ClusterNodeState, wire.struct(status, "a node").get("state"), "state")
            for node, status in result.items()
        }

    def update_cluster_node_configs(self, node_id: str = "", req_timeout_secs: Optional[int] = None) -> None:
        """Have a node read again who belongs to the cluster."""
        named = {"vrouter_id": node_id} if wire.text_argument("node_id", node_id) else {}
        self._call("updateClusterNodeConfigs", named, req_timeout_secs)

    def sco_cache_mount_point_info(
        self, node_id: str, req_timeout_secs: Optional[int] = None
    ) -> List[SCOCacheMountPointInfo]:
        """Tell about the directories of a node's SCO cache."""
        places = wire.array(self._of_node("scoCacheInfo", node_id, req_timeout_secs), "scoCacheInfo")
        return [SCOCacheMountPointInfo._of(wire.struct(place, "a mount point")) for place in places]

    def _scrub_manager_counters(self, node_id: str, req_timeout_secs: Optional[int] = None) -> ScrubManagerCounters:
        """Tell what became of scrub results. No stable interface."""
        result = wire.struct(
            self._of_node("getScrubManagerCounters", node_id, req_timeout_secs), "scrub_manager_counters"
        )
        counters = result.get("scrub_manager_counters", result)
        return ScrubManagerCounters._of(wire.struct(counters, "scrub_manager_counters"))
