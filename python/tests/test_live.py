"""Every method of the clients, asked of a live node: the result has the documented type, or the server says when it comes."""

import inspect
import unittest
import xmlrpc.client
from typing import Any, ClassVar, Dict, List, Set, Tuple

from volumedriver.storagerouter.storagerouterclient import (
    AppliedUpdates,
    ClientInfo,
    ClusterCacheHandle,
    ClusterCacheHandleInfo,
    InvalidOperationException,
    LocalStorageRouterClient,
    ObjectNotFoundException,
    SCOCacheMountPointInfo,
    ScrubManagerCounters,
    SnapshotInfo,
    Statistics,
    VolumeInfo,
)

from .nbd import Nbd
from .processes import OVS, Node
from .test_wire import CALLS, V

#: What the table of the wire has in tests of its own: method, arguments, name on the wire, type of the result.
MORE: List[Tuple[str, Dict[str, Any], str, Any]] = [
    ("info_volume", V, "volumeInfo", VolumeInfo),
    ("info_snapshot", {**V, "snapshot_id": "s"}, "snapshotInfo", SnapshotInfo),
    ("statistics_volume", {**V, "reset": True}, "volumePerformanceCountersV3", Statistics),
    ("statistics_node", {"node_id": "n"}, "volumeDriverPerformanceCountersV3", Statistics),
    ("list_client_connections", {"node_id": "n"}, "ListClientConnections", list),
    ("sco_cache_mount_point_info", {"node_id": "n"}, "scoCacheInfo", list),
    ("_scrub_manager_counters", {"node_id": "n"}, "getScrubManagerCounters", ScrubManagerCounters),
    (
        "get_cluster_cache_handle_info",
        {"handle": ClusterCacheHandle(1)},
        "getClusterCacheHandleInfo",
        ClusterCacheHandleInfo,
    ),
    ("update_configuration", {"config": "URL"}, "updateConfiguration", AppliedUpdates),
]

#: Methods that ask the server nothing, ask by others of these, or are refused without asking.
ASK_NOTHING = {
    "client_revision",
    "client_timeout_secs",
    "close",
    "destroy_filesystem",
    "feedback",
    "make_locked_client",
    "running_configuration",
    "temporary_snapshot",
    "volumes",
    "watch_feedback",
}


@unittest.skipUnless(OVS, "OVS_BINARY names no program")
class LiveTest(unittest.TestCase):
    node: ClassVar[Node]

    @classmethod
    def setUpClass(cls) -> None:
        cls.node = Node()
        cls.addClassCleanup(cls.node.remove)
        cls.node.up()

    def given(self, arguments: Dict[str, Any], volume_id: str) -> Dict[str, Any]:
        """The arguments of the table with the names of this node."""
        here = {"v": volume_id, "/v": f"/{volume_id}", "n": self.node.vrouter_id, "URL": self.node.config_url}
        return {key: here.get(value, value) if isinstance(value, str) else value for key, value in arguments.items()}

    def standing(self, wire_name: str) -> str:
        """Whether the server says that a method is here, comes later, or never."""
        endpoints = self.node.endpoints
        described = str(xmlrpc.client.ServerProxy(endpoints["xmlrpc"]).system.methodHelp(wire_name))  # type: ignore[attr-defined]
        return next((word for word in ("later", "never") if f"[{word}: " in described), "here")

    def test_every_method(self) -> None:
        client = LocalStorageRouterClient(str(self.node.data), 60)
        kinds: Dict[str, Set[Any]] = {}
        for method, _, _, _, _, returned in CALLS:
            kinds.setdefault(method, set()).add(type(returned))
        calls = [(method, arguments, wire_name) for method, arguments, wire_name, *_ in CALLS]
        for method, arguments, wire_name, kind in MORE:
            kinds[method] = {kind}
            calls.append((method, arguments, wire_name))
        asked = set()
        for number, (method, arguments, wire_name) in enumerate(calls):
            volume_id = f"v{number}"
            if method == "create_volume":
                arguments = {**arguments, "volume_size": "1MiB"}
            elif {"v", "/v"} & {value for value in arguments.values() if isinstance(value, str)}:
                client.create_volume(f"/{volume_id}", None, "1MiB")
            asked.add(method)
            with self.subTest(method, arguments=arguments):
                try:
                    result = getattr(client, method)(**self.given(arguments, volume_id))
                except InvalidOperationException as error:
                    # A volume with metadata servers is asked of a method that is there.
                    is_there = self.standing(wire_name) == "here" and not arguments.get("metadata_backend_config")
                    self.assertFalse(is_there, error)
                    self.assertRegex(str(error), "comes with|is not part of")
                else:
                    self.assertEqual(self.standing(wire_name), "here")
                    self.assertIn(type(result), kinds[method], result)
        public = {
            name
            for name, value in inspect.getmembers(LocalStorageRouterClient, inspect.isfunction)
            if not name.startswith("_")
        }
        self.assertEqual(public - asked - ASK_NOTHING, set(), "are asked of no live node")

    def test_lists_have_their_items(self) -> None:
        client = self.node.client()
        (disk,) = client.sco_cache_mount_point_info(self.node.vrouter_id)
        self.assertIsInstance(disk, SCOCacheMountPointInfo)
        self.assertGreater(disk.capacity, disk.used)
        volume_id = client.create_volume("/listed", None, "1MiB")
        self.addCleanup(client.unlink, "/listed")
        with Nbd(self.node.endpoints["nbd"], volume_id):
            (connected,) = client.list_client_connections(self.node.vrouter_id)
        self.assertIsInstance(connected, ClientInfo)
        self.assertEqual((connected.object_id, connected.ip), (volume_id, "127.0.0.1"))

    def test_a_volume_that_there_is_not(self) -> None:
        client = LocalStorageRouterClient(str(self.node.data), 60)
        calls = [(method, arguments) for method, arguments, *_ in CALLS] + [(m, a) for m, a, *_ in MORE]
        tried = 0
        for method, arguments in calls:
            if "volume_id" in arguments or arguments.get("object_id") == "v":
                tried += 1
                with self.subTest(method, arguments=arguments), self.assertRaises(ObjectNotFoundException) as caught:
                    getattr(client, method)(**self.given(arguments, "nowhere"))
                self.assertIn("nowhere", str(caught.exception))
        self.assertGreater(tried, 40)


if __name__ == "__main__":
    unittest.main()
