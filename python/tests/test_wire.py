"""What each method of the clients sends, and what it makes of the answer."""

import json
import os
import tempfile
import unittest
import xmlrpc.client
from typing import Any, Dict, List, Optional, Tuple

from volumedriver.storagerouter.storagerouterclient import (
    ClusterCacheHandle,
    ClusterNodeState,
    ConfigurationUpdateException,
    DTLConfig,
    DTLConfigMode,
    DTLMode,
    LocalStorageRouterClient,
    MDSMetaDataBackendConfig,
    MDSNodeConfig,
    ReadCacheBehaviour,
    ReadCacheMode,
    ServerFault,
    Severity,
    StorageRouterClient,
)

from .stub import Stub

V = {"volume_id": "v"}
N = {"vrouter_id": "n"}
MDS = MDSMetaDataBackendConfig([MDSNodeConfig("10.0.0.1", 26300)], max_tlogs_behind=3)
MDS_STRUCT = {
    "type": "MDS",
    "node_configs": [{"address": "10.0.0.1", "port": "26300"}],
    "apply_relocations_to_slaves": "true",
    "timeout_secs": "20",
    "max_tlogs_behind": "3",
}
DTL_STRUCT = {"host": "h", "port": "1", "mode": "Synchronous"}
SYNC_IGNORE = {"number_of_syncs_to_ignore": "3", "maximum_time_to_ignore_syncs_in_seconds": "4"}
FACTOR = "max_non_disposable_factor"

#: Method, arguments, name on the wire, what is sent, what is answered, what is returned.
CALLS: List[Tuple[str, Dict[str, Any], str, Dict[str, Any], Any, Any]] = [
    (
        "create_volume",
        {"target_path": "/v", "metadata_backend_config": MDS, "volume_size": "1GiB", "node_id": "n"},
        "volumeCreate",
        {"target_path": "/v", "metadata_backend_config": MDS_STRUCT, "volume_size": "1GiB", **N},
        {"volume_id": "v"},
        "v",
    ),
    (
        "create_volume",
        {"target_path": "/v", "metadata_backend_config": None, "volume_size": "0B"},
        "volumeCreate",
        {"target_path": "/v", "volume_size": "0B"},
        {"volume_id": "v"},
        "v",
    ),
    (
        "create_clone",
        {
            "target_path": "/c",
            "metadata_backend_config": None,
            "parent_volume_id": "v",
            "parent_snapshot_id": "s",
            "node_id": "n",
        },
        "volumeClone",
        {"target_path": "/c", "parent_volume_id": "v", "parent_snapshot_id": "s", **N},
        {"volume_id": "c"},
        "c",
    ),
    (
        "create_clone_from_template",
        {"target_path": "/c", "metadata_backend_config": None, "parent_volume_id": "v"},
        "volumeClone",
        {"target_path": "/c", "parent_volume_id": "v", "parent_snapshot_id": ""},
        {"volume_id": "c"},
        "c",
    ),
    ("truncate", {"object_id": "v", "new_size": "2GiB"}, "resizeObject", {**V, "volume_size": "2GiB"}, "", None),
    ("unlink", {"target_path": "/v"}, "unlink", {"target_path": "/v"}, "", None),
    (
        "update_metadata_backend_config",
        {**V, "metadata_backend_config": MDS},
        "updateMetaDataBackendConfig",
        {**V, "metadata_backend_config": MDS_STRUCT},
        "",
        None,
    ),
    ("list_volumes", {}, "volumesList", {}, ["a", "b"], ["a", "b"]),
    ("list_volumes", {"node_id": "n"}, "volumesList", N, [], []),
    ("list_halted_volumes", {"node_id": "n"}, "volumesListHalted", N, ["a"], ["a"]),
    ("list_volumes_by_path", {}, "volumesListByPath", {}, ["/a"], ["/a"]),
    ("create_snapshot", {**V}, "snapshotCreate", {**V, "snapshot_id": ""}, "named", "named"),
    (
        "create_snapshot",
        {**V, "snapshot_id": "s", "metadata": "\udcff\u00e4"},
        "snapshotCreate",
        {**V, "snapshot_id": "s", "metadata": b"\xff\xc3\xa4"},
        "s",
        "s",
    ),
    ("list_snapshots", V, "snapshotsList", V, ["s1", "s2"], ["s1", "s2"]),
    ("delete_snapshot", {**V, "snapshot_id": "s"}, "snapshotDestroy", {**V, "snapshot_id": "s"}, "", None),
    ("rollback_volume", {**V, "snapshot_id": "s"}, "snapshotRestore", {**V, "snapshot_id": "s"}, "", None),
    ("set_volume_as_template", V, "setVolumeAsTemplate", V, "", None),
    ("get_volume_id", {"path": "/v"}, "getVolumeId", {"target_path": "/v"}, {"volume_id": "v"}, "v"),
    ("get_volume_id", {"path": "/x"}, "getVolumeId", {"target_path": "/x"}, {"volume_id": ""}, None),
    ("get_volume_id", {"path": "/x"}, "getVolumeId", {"target_path": "/x"}, "", None),
    ("get_object_id", {"path": "/v"}, "getObjectId", {"target_path": "/v"}, {"object_id": "v"}, "v"),
    ("server_revision", {}, "revision", {}, "version: 1\n", "version: 1\n"),
    ("volume_potential", {"node_id": "n"}, "volumePotential", N, {"volume_potential": "12"}, 12),
    (
        "stop_object",
        {"object_id": "v", "delete_local_data": True, "node_id": "n"},
        "stopVolume",
        {**V, **N, "delete_local_data": "true"},
        "",
        None,
    ),
    ("restart_object", {"object_id": "v", "force_restart": False}, "restartVolume", {**V, "force": "false"}, "", None),
    (
        "migrate",
        {"object_id": "v", "node_id": "n", "force_restart": True},
        "migrateVolume",
        {**V, **N, "force": "true"},
        "",
        None,
    ),
    ("mark_node_offline", {"node_id": "n"}, "markNodeOffline", N, "", None),
    ("mark_node_online", {"node_id": "n"}, "markNodeOnline", N, "", None),
    (
        "info_cluster",
        {},
        "getNodesStatusMap",
        {},
        {"a": {"state": 1, "config": {}}, "b": {"state": "Offline"}},
        {"a": ClusterNodeState.ONLINE, "b": ClusterNodeState.OFFLINE},
    ),
    ("update_cluster_node_configs", {}, "updateClusterNodeConfigs", {}, "", None),
    ("update_cluster_node_configs", {"node_id": "n"}, "updateClusterNodeConfigs", N, "", None),
    (
        "set_sync_ignore",
        {**V, "number_of_syncs_to_ignore": 3, "maximum_time_to_ignore_syncs_in_seconds": 4},
        "setSyncIgnore",
        {**V, **SYNC_IGNORE},
        "",
        None,
    ),
    ("get_sync_ignore", V, "getSyncIgnore", V, SYNC_IGNORE, {key: int(value) for key, value in SYNC_IGNORE.items()}),
    (
        "set_sco_multiplier",
        {**V, "sco_multiplier": 1024},
        "setSCOMultiplier",
        {**V, "sco_multiplier": "1024"},
        "",
        None,
    ),
    ("get_sco_multiplier", V, "getSCOMultiplier", V, {"sco_multiplier": "1024"}, 1024),
    ("set_tlog_multiplier", {**V, "tlog_multiplier": None}, "setTLogMultiplier", V, "", None),
    ("set_tlog_multiplier", {**V, "tlog_multiplier": 4}, "setTLogMultiplier", {**V, "tlog_multiplier": "4"}, "", None),
    ("get_tlog_multiplier", V, "getTLogMultiplier", V, {}, None),
    ("get_tlog_multiplier", V, "getTLogMultiplier", V, {"tlog_multiplier": "4"}, 4),
    (
        "set_sco_cache_max_non_disposable_factor",
        {**V, FACTOR: 1.5},
        "setSCOCacheMaxNonDisposableFactor",
        {**V, FACTOR: "1.5"},
        "",
        None,
    ),
    ("get_sco_cache_max_non_disposable_factor", V, "getSCOCacheMaxNonDisposableFactor", V, {FACTOR: "1.5"}, 1.5),
    ("get_sco_cache_max_non_disposable_factor", V, "getSCOCacheMaxNonDisposableFactor", V, "", None),
    (
        "set_metadata_cache_capacity",
        {**V, "num_pages": 8},
        "setMetaDataCacheCapacity",
        {**V, "metadata_cache_capacity": "8"},
        "",
        None,
    ),
    ("get_metadata_cache_capacity", V, "getMetaDataCacheCapacity", V, {"metadata_cache_capacity": "8"}, 8),
    ("get_metadata_cache_capacity", V, "getMetaDataCacheCapacity", V, {}, None),
    ("get_dtl_config_mode", V, "getFailOverCacheConfigMode", V, {"foc_config_mode": "Manual"}, DTLConfigMode.MANUAL),
    ("get_dtl_config", V, "getFailOverCacheConfig", V, "", None),
    (
        "get_dtl_config",
        V,
        "getFailOverCacheConfig",
        V,
        {"foc_config": DTL_STRUCT},
        DTLConfig("h", 1, DTLMode.SYNCHRONOUS),
    ),
    (
        "set_manual_dtl_config",
        {"node_id": "v", "config": DTLConfig("h", 1, DTLMode.SYNCHRONOUS)},
        "setManualFailOverCacheConfig",
        {**V, "foc_config": DTL_STRUCT},
        "",
        None,
    ),
    ("set_manual_dtl_config", {"node_id": "v", "config": None}, "setManualFailOverCacheConfig", V, "", None),
    ("set_automatic_dtl_config", {"node_id": "v"}, "setAutomaticFailOverCacheConfig", V, "", None),
    (
        "set_readcache_behaviour",
        {**V, "behaviour": ReadCacheBehaviour.NO_CACHE},
        "setClusterCacheBehaviour",
        {**V, "cluster_cache_behaviour": "NoCache"},
        "",
        None,
    ),
    (
        "get_readcache_behaviour",
        V,
        "getClusterCacheBehaviour",
        V,
        {"cluster_cache_behaviour": "CacheOnWrite"},
        ReadCacheBehaviour.CACHE_ON_WRITE,
    ),
    ("get_readcache_behaviour", V, "getClusterCacheBehaviour", V, {}, None),
    (
        "set_readcache_mode",
        {**V, "mode": ReadCacheMode.LOCATION_BASED},
        "setClusterCacheMode",
        {**V, "cluster_cache_mode": "LocationBased"},
        "",
        None,
    ),
    ("get_readcache_mode", V, "getClusterCacheMode", V, "", None),
    ("set_readcache_limit", {**V, "limit": None}, "setClusterCacheLimit", V, "", None),
    ("get_readcache_limit", V, "getClusterCacheLimit", V, {"cluster_cache_limit": "9"}, 9),
    ("schedule_backend_sync", V, "scheduleBackendSync", V, {"tlog_name": "tlog_1"}, "tlog_1"),
    (
        "is_volume_synced_up_to_tlog",
        {**V, "tlog_name": "t"},
        "isVolumeSyncedUpToTLog",
        {**V, "tlog_name": "t"},
        True,
        True,
    ),
    (
        "is_volume_synced_up_to_snapshot",
        {**V, "snapshot_name": "s"},
        "isVolumeSyncedUpToSnapshot",
        {**V, "snapshot_id": "s"},
        False,
        False,
    ),
    ("_backend_connection_pool", V, "getBackendConnectionPool", V, {"backend_config_str": "{}"}, "{}"),
    (
        "get_running_configuration",
        {},
        "persistConfigurationToString",
        {"show_defaults": "false"},
        {"configuration": "{}"},
        "{}",
    ),
    ("get_general_logging_level", {}, "getGeneralLoggingLevel", {}, "notice", Severity.notification),
    (
        "set_general_logging_level",
        {"severity": Severity.notification},
        "setGeneralLoggingLevel",
        {"log_filter_level": "notice"},
        "",
        None,
    ),
    (
        "list_logging_filters",
        {},
        "showLoggingFilters",
        {},
        [{"log_filter_name": "a", "log_filter_level": "debug"}],
        [("a", Severity.debug)],
    ),
    (
        "add_logging_filter",
        {"filter_match": "a", "severity": Severity.debug},
        "addLoggingFilter",
        {"log_filter_name": "a", "log_filter_level": "debug"},
        "",
        None,
    ),
    ("remove_logging_filter", {"filter_match": "a"}, "removeLoggingFilter", {"log_filter_name": "a"}, "", None),
    ("remove_logging_filters", {}, "removeAllLoggingFilters", {}, "", None),
    ("malloc_info", {}, "mallocInfo", {}, "<malloc/>", "<malloc/>"),
    ("list_cluster_cache_handles", {}, "listClusterCacheHandles", {}, ["7"], [ClusterCacheHandle(7)]),
    (
        "remove_cluster_cache_handle",
        {"handle": ClusterCacheHandle(7)},
        "removeClusterCacheHandle",
        {"cluster_cache_handle": "7"},
        "",
        None,
    ),
    ("_remove_namespace_from_sco_cache", {"nspace": "ns"}, "removeNamespaceFromSCOCache", {"nspace": "ns"}, True, None),
]


class Wire(unittest.TestCase):
    """Methods against a node that notes what it is asked."""

    def client(self, node: Stub) -> LocalStorageRouterClient:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        url = f"http://ovs:secret@127.0.0.1:{node.port}/RPC2"
        with open(os.path.join(folder.name, "endpoints.json"), "w") as file:
            json.dump({"xmlrpc": url, "vpool_guid": "c", "vrouter_id": "n", "config": "etcd://x/y"}, file)
        return LocalStorageRouterClient(folder.name, 5)

    def ask(self, method: str, given: Dict[str, Any], answer: Any) -> Tuple[Stub, Any]:
        with Stub(lambda *_: answer) as node:
            return node, getattr(self.client(node), method)(**given)

    def test_what_is_sent_and_returned(self) -> None:
        for method, given, name, sent, answer, returned in CALLS:
            with self.subTest(method, given=given):
                node, got = self.ask(method, given, answer)
                self.assertEqual(node.methods, [name])
                self.assertEqual(node.requests[0][1][0]["vrouter_cluster_id"], "c")
                self.assertEqual(node.last, sent)
                self.assertEqual(got, returned)
                self.assertIs(type(got), type(returned))
                self.assertIn("Authorization", node.headers[0])

    def test_every_method_that_calls_is_in_the_table(self) -> None:
        tried = {call[0] for call in CALLS} | {name[len("test_") :] for name in dir(self) if name.startswith("test_")}
        methods = [name for name in dir(LocalStorageRouterClient) if not name.startswith("_")]
        silent = {"client_revision", "client_timeout_secs", "close", "configuration_url", "vrouter_id", "volumes"}
        own = {
            "make_locked_client",
            "max_redirects",
            "destroy_filesystem",
            "temporary_snapshot",
            "running_configuration",
            "feedback",
            "watch_feedback",
        }
        self.assertEqual(sorted(set(methods) - tried - silent - own), [])

    def test_info_volume(self) -> None:
        node, info = self.ask(
            "info_volume", {"volume_id": "v", "redirect_fenced": False}, {"volume_id": "v", "halted": True}
        )
        self.assertEqual((node.methods, node.last), (["volumeInfo"], {**V, "redirect_fenced": "false"}))
        self.assertEqual((info.volume_id, info.halted), ("v", True))

    def test_info_snapshot(self) -> None:
        node, info = self.ask("info_snapshot", {**V, "snapshot_id": "s"}, {"snapshot_id": "s", "stored": 1})
        self.assertEqual((node.methods, node.last), (["snapshotInfo"], {**V, "snapshot_id": "s"}))
        self.assertEqual((info.snapshot_id, info.stored), ("s", 1))

    def test_statistics_volume(self) -> None:
        node, statistics = self.ask("statistics_volume", {**V, "reset": True}, {"stored": "5"})
        self.assertEqual((node.methods, node.last), (["volumePerformanceCountersV3"], {**V, "reset": "true"}))
        self.assertEqual(statistics.stored, 5)

    def test_statistics_node(self) -> None:
        node, _ = self.ask("statistics_node", {"node_id": "n"}, {"stored": "5"})
        self.assertEqual((node.methods, node.last), (["volumeDriverPerformanceCountersV3"], {**N, "reset": "false"}))

    def statistics_of(self, methods: List[str]) -> Tuple[Stub, Any]:
        """Asks a node that has these methods, and fails in the newest one."""

        def answer(method: str, _struct: Dict[str, Any]) -> Any:
            if method == "system.listMethods":
                return methods
            if method.endswith("V3"):
                raise xmlrpc.client.Fault(1, "why")
            return {"stored": 5}

        with Stub(answer) as node:
            try:
                return node, StorageRouterClient("c", [node.contact], 5).statistics_volume("v")
            except ServerFault as fault:
                return node, fault

    def test_statistics_in_their_old_form(self) -> None:
        node, statistics = self.statistics_of(["volumePerformanceCounters"])
        asked = ["volumePerformanceCountersV3", "system.listMethods", "volumePerformanceCounters"]
        self.assertEqual((node.methods, statistics.stored), (asked, 5))

    def test_statistics_that_fail_in_their_newest_form(self) -> None:
        node, fault = self.statistics_of(["volumePerformanceCounters", "volumePerformanceCountersV3"])
        self.assertEqual((len(node.methods), fault.text), (2, "why"))

    def test_list_client_connections(self) -> None:
        told = [{"object_id": "v", "ip": "127.0.0.1", "port": 5}, {"ip": "::1", "port": "6"}]
        node, clients = self.ask("list_client_connections", {"node_id": "n"}, told)
        self.assertEqual((node.methods, node.last), (["ListClientConnections"], N))
        self.assertEqual([(c.object_id, c.ip, c.port) for c in clients], [("v", "127.0.0.1", 5), (None, "::1", 6)])

    def test_sco_cache_mount_point_info(self) -> None:
        told = {"path": "/p", "max_size": "1GiB", "free": "7", "used": "2 KB", "choking": False, "offlined": True}
        node, places = self.ask("sco_cache_mount_point_info", {"node_id": "n"}, [told])
        self.assertEqual((node.methods, node.last), (["scoCacheInfo"], N))
        place = places[0]
        self.assertEqual((place.path, place.capacity, place.free, place.used), ("/p", 1 << 30, 7, 2000))
        self.assertEqual((place.choking, place.offlined), (False, True))
        self.assertEqual(place, places[0])

    def test_scrub_manager_counters(self) -> None:
        told = {"scrub_manager_counters": {"parent_scrubs_ok": "3"}}
        node, counters = self.ask("_scrub_manager_counters", {"node_id": "n"}, told)
        self.assertEqual((node.methods, node.last), (["getScrubManagerCounters"], N))
        self.assertEqual((counters.parent_scrubs_ok, counters.clone_scrubs_nok), (3, 0))

    def test_get_cluster_cache_handle_info(self) -> None:
        handle = ClusterCacheHandle(7)
        node, info = self.ask("get_cluster_cache_handle_info", {"handle": handle}, {"entries": 2})
        self.assertEqual((node.methods, node.last), (["getClusterCacheHandleInfo"], {"cluster_cache_handle": "7"}))
        self.assertEqual(info.entries, 2)

    def test_update_configuration(self) -> None:
        change = {"component_name": "filesystem", "parameter_name": "p", "old_value": "0", "new_value": "1"}
        waits = {"component_name": "filesystem", "parameter_name": "q", "old_value": "a", "new_value": "b"}
        told = {"updates": [change], "no_updates": [waits], "feedback_id": "f", "revision": 12}
        node, applied = self.ask("update_configuration", {"config": "/c"}, told)
        self.assertEqual((node.methods, node.last), (["updateConfiguration"], {"configuration_path": "/c"}))
        self.assertEqual(applied, [{"param_name": "p", "old_value": "0", "new_value": "1"}])
        self.assertEqual(applied.pending_restart, [{"param_name": "q", "old_value": "a", "new_value": "b"}])
        self.assertEqual((applied.feedback_id, applied.revision), ("f", 12))
        self.assertIsInstance(applied, list)

    def test_update_configuration_that_is_rejected(self) -> None:
        problem = {"component_name": "c", "parameter_name": "p", "problem": "wrong"}
        with self.assertRaises(ConfigurationUpdateException) as caught:
            self.ask("update_configuration", {"config": "/c"}, {"problems": [problem]})
        self.assertEqual([tuple(p) for p in caught.exception.problems], [("c", "p", "wrong", "")])

    def test_running_configuration_by_section(self) -> None:
        _, read = self.ask(
            "running_configuration",
            {"report_defaults": True},
            {"configuration": '{"a": {"b": 1}}'},
        )
        self.assertEqual(read, {"a": {"b": 1}})

    def test_iterating(self) -> None:
        def answer(method: str, struct: Dict[str, Any]) -> Any:
            if method == "volumesList":
                return ["a", "gone", "b"]
            if struct["volume_id"] == "gone":
                return {"xmlrpc_error_code": 1, "xmlrpc_error_string": "gone"}
            return {"volume_id": struct["volume_id"]}

        with Stub(answer) as node:
            client = StorageRouterClient("c", [node.contact], 5)
            self.assertEqual(list(client), ["a", "gone", "b"])
            self.assertEqual([info.volume_id for info in client.volumes()], ["a", "b"])
            self.assertIn("a", client)

    def test_a_snapshot_for_a_while(self) -> None:
        with Stub(lambda method, _: "s" if method == "snapshotCreate" else "") as node:
            client = StorageRouterClient("c", [node.contact], 5)
            with self.assertRaises(KeyError), client.temporary_snapshot("v") as name:
                self.assertEqual(name, "s")
                raise KeyError
            self.assertEqual(node.methods, ["snapshotCreate", "snapshotDestroy"])

    def test_methods_without_a_call(self) -> None:
        with Stub(lambda *_: "") as node:
            client = self.client(node)
            self.assertIn("version: ", client.client_revision())
            self.assertEqual(client.client_timeout_secs(), 5)
            self.assertEqual((client.vrouter_id, client.configuration_url), ("n", "etcd://x/y"))
            with self.assertRaisesRegex(RuntimeError, "unlink"):
                client.destroy_filesystem()
            self.assertEqual(node.requests, [])


class Waiting(unittest.TestCase):
    """``wait=True``."""

    def waits(self, after: int, timeout: float = 5, error: Optional[int] = None) -> Tuple[List[Any], str]:
        """A snapshot that is on the backend after that many questions."""
        asked = [0]
        told: List[Any] = []

        def answer(method: str, _struct: Dict[str, Any]) -> Any:
            if method == "snapshotCreate":
                return "s"
            asked[0] += 1
            if error is not None:
                return {"xmlrpc_error_code": error, "xmlrpc_error_string": "why"}
            return asked[0] >= after

        with Stub(answer) as node:
            client = StorageRouterClient("c", [node.contact], 5)
            name = client.create_snapshot("v", wait=True, wait_timeout_secs=timeout, progress=told.append)
        return told, name

    def test_until_it_is_done(self) -> None:
        told, name = self.waits(3)
        self.assertEqual(name, "s")
        self.assertEqual([(p.asked, p.done) for p in told], [(1, False), (2, False), (3, True)])
        self.assertEqual({(p.operation, p.object_id) for p in told}, {("snapshot", "v")})

    def test_with_a_bound(self) -> None:
        with self.assertRaisesRegex(TimeoutError, "snapshot of v is not done after 0.3 s"):
            self.waits(1000, timeout=0.3)

    def test_not_when_it_failed(self) -> None:
        from volumedriver.storagerouter.storagerouterclient import VolumeHaltedException

        self.assertRaises(VolumeHaltedException, self.waits, 1, error=10)

    def test_until_a_volume_runs_elsewhere(self) -> None:
        answers: List[Any] = [
            {"xmlrpc_error_code": 9, "xmlrpc_error_string": "starts"},
            {"volume_id": "v", "vrouter_id": "old"},
            {"volume_id": "v", "vrouter_id": "new"},
        ]
        with Stub(lambda method, _: "" if method == "migrateVolume" else answers.pop(0)) as node:
            StorageRouterClient("c", [node.contact], 5).migrate("v", "new", False, wait=True, wait_timeout_secs=5)
            self.assertEqual((node.methods, answers), (["migrateVolume"] + ["volumeInfo"] * 3, []))


if __name__ == "__main__":
    unittest.main()
