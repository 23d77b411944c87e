"""Value classes: what they hold, compare, print, pickle. With the 21 tests that the original had of its binding."""

import contextlib
import io
import os
import pickle
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from typing import Any, Dict, List

from volumedriver.storagerouter import storagerouterclient as module
from volumedriver.storagerouter.statistics import SIZES, USECS
from volumedriver.storagerouter.storagerouterclient import (
    ApplyRelocationsToSlaves,
    ArakoonMetaDataBackendConfig,
    ArakoonNodeConfig,
    ClientInfo,
    ClusterCacheHandle,
    ClusterCacheHandleInfo,
    ClusterContact,
    ClusterNodeConfig,
    ClusterNodeState,
    ClusterNotReachableException,
    DTLConfig,
    DTLMode,
    Logger,
    Logging,
    LogRotationType,
    MDSClient,
    MDSMetaDataBackendConfig,
    MDSNodeConfig,
    ObjectType,
    OwnerTag,
    PythonTestHelpers,
    ScrubManagerCounters,
    Severity,
    SnapshotInfo,
    Statistics,
    StorageRouterClient,
    VolumeInfo,
)

FIELDS = (
    "volume_id namespace parent_namespace parent_snapshot_id volume_size lba_size lba_count "
    "cluster_multiplier sco_multiplier failover_mode failover_ip failover_port halted footprint stored "
    "object_type parent_volume_id vrouter_id metadata_backend_config cluster_cache_handle owner_tag "
    "cluster_cache_limit"
).split()

#: A volume as a node tells of it.
VOLUME: Dict[str, Any] = {
    "volume_id": "v<1>",
    "_namespace_": "ns",
    "parent_namespace": "",
    "parent_snapshot_id": "",
    "volume_size": str(1 << 40),
    "lba_size": 512,
    "lba_count": "2147483648",
    "cluster_multiplier": 8,
    "sco_multiplier": "1024",
    "failover_mode": "OK_STANDALONE",
    "failover_ip": "",
    "failover_port": 0,
    "halted": False,
    "footprint": 3,
    "stored": "18446744073709551615",
    "object_type": 1,
    "parent_volume_id": "",
    "vrouter_id": "n1",
    "metadata_backend_config": {
        "type": "MDS",
        "node_configs": [{"address": "10.0.0.1", "port": 26300}],
        "apply_relocations_to_slaves": "false",
        "timeout_secs": "20",
    },
    "owner_tag": 7,
    "cluster_cache_handle": "18446744073709551615",
    "something_new": "is ignored",
}


def pickled(value: Any) -> List[Any]:
    """What is left of a value by each way of pickling."""
    return [pickle.loads(pickle.dumps(value, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]


class Volumes(unittest.TestCase):
    """VolumeInfo, which the framework looks into."""

    def test_the_fields_are_properties_of_the_class(self) -> None:
        found = [name for name, value in VolumeInfo().__class__.__dict__.items() if type(value) is property]
        self.assertEqual(sorted(found), sorted(FIELDS))
        self.assertEqual(len(found), 22)

    def test_an_empty_one(self) -> None:
        info = VolumeInfo()
        for name in FIELDS:
            with self.subTest(name):
                value = getattr(info, name)
                self.assertIn(value, ("", 0, False, None, OwnerTag(0), ClusterCacheHandle(0), ObjectType.FILE))
        self.assertEqual(str(info.object_type), "FILE")

    def test_what_a_node_tells(self) -> None:
        info = VolumeInfo._of(VOLUME)
        self.assertEqual((info.volume_id, info.namespace, info.volume_size), ("v<1>", "ns", 1 << 40))
        self.assertEqual((info.stored, info.owner_tag), ((1 << 64) - 1, OwnerTag(7)))
        self.assertEqual(info.cluster_cache_handle, ClusterCacheHandle((1 << 64) - 1))
        self.assertEqual(str(info.object_type), "BASE")
        self.assertIs(info.halted, False)
        self.assertIsNone(info.cluster_cache_limit)
        config = info.metadata_backend_config
        assert isinstance(config, MDSMetaDataBackendConfig)
        self.assertEqual([(n.address(), n.port()) for n in config.node_configs()], [("10.0.0.1", 26300)])
        self.assertEqual(config.apply_relocations_to_slaves(), ApplyRelocationsToSlaves.F)

    def test_fields_cannot_be_set(self) -> None:
        info: Any = VolumeInfo()
        with self.assertRaises(AttributeError):
            info.volume_id = "other"

    def test_its_text_is_xml(self) -> None:
        tree = ElementTree.fromstring(str(VolumeInfo._of(VOLUME)).encode())
        self.assertEqual(tree.findtext("XMLRPCVolumeInfo/volume_id"), "v<1>")
        self.assertEqual(tree.findtext(".//vrouter_id"), "n1")
        self.assertEqual(tree.findtext(".//halted"), "0")
        self.assertEqual(repr(VolumeInfo()), str(VolumeInfo()))

    def test_comparing_and_pickling(self) -> None:
        info = VolumeInfo._of(VOLUME)
        self.assertNotEqual(info, VolumeInfo())
        self.assertNotEqual(info, "v")
        self.assertEqual(info, VolumeInfo._of(dict(VOLUME)))
        for again in pickled(info):
            self.assertEqual(again, info)


class Counters(unittest.TestCase):
    """Statistics and what is in them."""

    def test_an_empty_one(self) -> None:
        statistics = Statistics()
        self.assertEqual(statistics.stored, 0)
        counter = statistics.performance_counters.write_request_size
        self.assertEqual((counter.events(), counter.sum(), counter.max(), counter.min()), (0, 0, 0, (1 << 64) - 1))
        self.assertEqual(counter.distribution(), dict.fromkeys(SIZES, 0))
        self.assertEqual(SIZES[0], 4096)
        usecs = statistics.performance_counters.sync_request_usecs
        self.assertEqual(list(usecs.distribution()), list(USECS))

    def test_what_a_node_tells(self) -> None:
        counter = {"events": 2, "sum": "8192", "sqsum": "33554432", "min": 4096, "max": 4096, "buckets": [0, 2]}
        told = {"sco_cache_hits": "5", "performance_counters": {"write_request_size": counter}}
        statistics = Statistics._of(told)
        self.assertEqual(statistics.sco_cache_hits, 5)
        read = statistics.performance_counters.write_request_size
        self.assertEqual((read.events(), read.sum(), read.sum_of_squares()), (2, 8192, 33554432))
        self.assertEqual(read.distribution(), {**dict.fromkeys(SIZES, 0), 8192: 2})
        self.assertEqual(statistics.performance_counters.read_request_size.events(), 0)
        for again in pickled(statistics):
            self.assertEqual(again, statistics)
        self.assertNotEqual(statistics, Statistics())
        self.assertIn("<sco_cache_hits>5</sco_cache_hits>", str(statistics))

    def test_eleven_counters(self) -> None:
        counters = type(Statistics().performance_counters)
        self.assertEqual(sum(isinstance(v, property) for v in counters.__dict__.values()), 11)


class Others(unittest.TestCase):
    """All other value classes."""

    def test_snapshots_keep_bytes_of_their_metadata(self) -> None:
        told = {"snapshot_id": "s", "metadata": b"\x80\x02pickle\xff", "in_backend": True, "stored": "7"}
        info = SnapshotInfo._of(told)
        self.assertEqual(info.metadata.encode("utf-8", "surrogateescape"), b"\x80\x02pickle\xff")
        self.assertEqual((info.snapshot_id, info.stored, info.in_backend), ("s", 7, True))
        for again in pickled(info):
            self.assertEqual(again, info)

    def test_tags(self) -> None:
        self.assertEqual(repr(OwnerTag(7)), "OwnerTag(7)")
        self.assertEqual(OwnerTag(7), OwnerTag(7))
        self.assertNotEqual(OwnerTag(7), OwnerTag(8))
        self.assertNotEqual(OwnerTag(7), ClusterCacheHandle(7))
        self.assertNotEqual(OwnerTag(7), 7)
        tag: Any = OwnerTag(7)
        self.assertRaises(TypeError, int, tag)
        self.assertRaises(OverflowError, OwnerTag, 1 << 64)
        self.assertRaises(OverflowError, OwnerTag, -1)
        for again in pickled(tag):
            self.assertEqual(again, tag)

    def test_node_configs_default_their_hosts(self) -> None:
        config = ClusterNodeConfig("n", "h", 1, 2, 3)
        self.assertEqual((config.xmlrpc_host, config.failovercache_host, config.message_host), ("h", "h", "h"))
        self.assertIsNone(config.node_distance_map)
        self.assertRaises(RuntimeError, ClusterNodeConfig, "", "h", 1, 2, 3)
        self.assertRaises(OverflowError, ClusterNodeConfig, "n", "h", 65536, 2, 3)
        self.assertIn("vrouter_id=n", str(config))

    def test_metadata_backends(self) -> None:
        node = MDSNodeConfig("10.0.0.1", 26300)
        config = MDSMetaDataBackendConfig([node])
        self.assertEqual((config.timeout_secs(), config.max_tlogs_behind()), (20, None))
        self.assertEqual(config.apply_relocations_to_slaves(), ApplyRelocationsToSlaves.T)
        self.assertRaises(RuntimeError, MDSMetaDataBackendConfig, [])
        self.assertRaises(RuntimeError, MDSMetaDataBackendConfig, [node], timeout_secs=0)
        other = ArakoonMetaDataBackendConfig("a", [ArakoonNodeConfig("n", "h", 1)])
        self.assertEqual((other.cluster_id(), other.node_configs()[0].port), ("a", 1))
        self.assertNotEqual(config, other)
        self.assertEqual(config, MDSMetaDataBackendConfig([MDSNodeConfig("10.0.0.1", 26300)]))

    def test_dtl(self) -> None:
        config = DTLConfig("10.0.0.1", 26203)
        self.assertEqual(config.mode, DTLMode.ASYNCHRONOUS)
        self.assertEqual(repr(config), "DTLConfig(10.0.0.1:26203,Asynchronous)")
        self.assertEqual(config, DTLConfig("10.0.0.1", 26203, DTLMode.ASYNCHRONOUS))
        self.assertNotEqual(config, DTLConfig("10.0.0.1", 26203, DTLMode.SYNCHRONOUS))

    def test_what_only_servers_make(self) -> None:
        self.assertRaises(RuntimeError, module.SCOCacheMountPointInfo)
        self.assertRaises(RuntimeError, module.MDSTableCounters)
        self.assertRaises(RuntimeError, module.LockedClient)

    def test_smaller_ones(self) -> None:
        self.assertEqual(ScrubManagerCounters().parent_scrubs_ok, 0)
        info = ClusterCacheHandleInfo._of({"cluster_cache_handle": 3, "entries": 4, "map_stats": [1, "2"]})
        self.assertEqual((info.entries, info.max_entries, info.map_stats), (4, None, [1, 2]))
        for again in pickled(info):
            self.assertEqual(again, info)
        client = ClientInfo(None, "127.0.0.1", 5)
        self.assertEqual((client.object_id, client.ip, client.port), (None, "127.0.0.1", 5))
        self.assertEqual(module.BuildInfo.revision(), module.BuildInfo.version_revision())

    def test_a_metadata_server_is_not_there_yet(self) -> None:
        self.assertRaises(RuntimeError, MDSClient, MDSNodeConfig("h", 1), 0)
        client = MDSClient(timeout_secs=5, mds_node_config=MDSNodeConfig("h", 1))
        with self.assertRaisesRegex(RuntimeError, "no metadata server yet"):
            client.create_namespace("n")

    def test_the_log(self) -> None:
        self.assertFalse(Logger.loggingEnabled())
        with self.assertNoLogging():
            Logging("quiet")(Severity.fatal, "not seen")
        Logger.enableLogging()
        try:
            Logger.setGeneralLoggingLevel(Severity.warning)
            Logger.addFilter("loud", Severity.debug)
            self.assertEqual(Logger.listFilters(), {"loud": Severity.debug})
            with self.assertLogs("volumedriver", level="DEBUG") as seen:
                Logger.setGeneralLoggingLevel(Severity.warning)
                Logging("loud")(Severity.debug, "100% seen")
                Logging("quiet")(Severity.info, "not seen")
            self.assertEqual([record.getMessage() for record in seen.records], ["100% seen"])
        finally:
            Logger.removeAllFilters()
            Logger.setGeneralLoggingLevel(Severity.info)
            Logger.disableLogging()

    def test_the_log_in_a_file(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "log")
            Logger.setupLogging(path, Severity.warning, LogRotationType.T, "100%")
            try:
                Logging("part")(Severity.warning, "seen")
                Logging("part")(Severity.info, "not seen")
            finally:
                Logger.teardownLogging()
                Logger.setGeneralLoggingLevel(Severity.info)
                Logger.disableLogging()
            with open(path) as file:
                (line,) = file.read().splitlines()
        self.assertTrue(line.endswith("100% volumedriver.part WARNING seen"), line)

    def assertNoLogging(self) -> Any:
        """As ``assertNoLogs``, which Python 3.9 lacks."""

        @contextlib.contextmanager
        def checked() -> Any:
            out = io.StringIO()
            with contextlib.redirect_stderr(out):
                yield
            self.assertEqual(out.getvalue(), "")

        return checked()


class Original(unittest.TestCase):
    """The tests of the original's binding, by their names."""

    def test_VolumeInfoPickling(self) -> None:
        self.assertEqual(pickle.loads(pickle.dumps(VolumeInfo())), VolumeInfo())

    def test_StatisticsPickling(self) -> None:
        self.assertEqual(pickle.loads(pickle.dumps(Statistics())), Statistics())

    def test_SnapshotInfoPickling(self) -> None:
        self.assertEqual(pickle.loads(pickle.dumps(SnapshotInfo())), SnapshotInfo())

    def test_basic(self) -> None:
        contacts = [ClusterContact("one.invalid", 12345), ClusterContact("two.invalid", 12345)]
        self.assertRaises(ClusterNotReachableException, StorageRouterClient("c", contacts, 20).list_volumes)

    def test_exceptions(self) -> None:
        names = "MaxRedirectsExceeded ObjectNotFound InvalidOperation SnapshotNotFound FileExists InsufficientResources"
        PythonTestHelpers.generate_exceptions(0)
        for number, name in enumerate([*names.split(), "VolumeRestartInProgress"], 1):
            kind = getattr(module, f"{name}Exception")
            self.assertTrue(issubclass(kind, Exception))
            self.assertRaises(kind, PythonTestHelpers.generate_exceptions, number)

    def test_info_cluster(self) -> None:
        expected = {"A": ClusterNodeState.ONLINE, "B": ClusterNodeState.OFFLINE}
        self.assertEqual(PythonTestHelpers.generate_node_status_map(), expected)

    def test_update_configuration(self) -> None:
        report = PythonTestHelpers.generate_update_report()
        self.assertEqual(len(report), 2)
        for update in report:
            self.assertEqual(sorted(update), ["new_value", "old_value", "param_name"])

    def test_arakoon_node_id(self) -> None:
        self.assertEqual(PythonTestHelpers.reflect_arakoon_node_id("n"), "n")

    def test_arakoon_node_config(self) -> None:
        config = ArakoonNodeConfig("n", "h", 1)
        self.assertEqual(PythonTestHelpers.reflect_arakoon_node_config(config), config)

    def test_cluster_node_config(self) -> None:
        config = ClusterNodeConfig(
            vrouter_id="n",
            host="h",
            message_port=1,
            xmlrpc_port=2,
            failovercache_port=3,
            network_server_uri="tcp://h:4",
        )
        self.assertEqual((config.vrouter_id, config.host, config.message_port), ("n", "h", 1))
        self.assertEqual((config.xmlrpc_port, config.failovercache_port), (2, 3))
        self.assertEqual(config.network_server_uri, "tcp://h:4")

    def test_cluster_node_config_by_position(self) -> None:
        config = ClusterNodeConfig("n", "h", 1, 2, 3, "tcp://h:4", "x", "f")
        self.assertEqual(PythonTestHelpers.reflect_cluster_node_config(config), config)

    def test_cluster_node_config_list(self) -> None:
        configs = [ClusterNodeConfig(f"n{n}", "h", 1, 2, 3, node_distance_map={"n0": n}) for n in range(5)]
        self.assertEqual(PythonTestHelpers.reflect_cluster_node_config_list(configs), configs)

    def test_strongly_typed_tcp_ports(self) -> None:
        self.assertRaises(OverflowError, PythonTestHelpers.arithmeticy_things, 65536, 1)
        self.assertEqual(PythonTestHelpers.arithmeticy_things(1, 2), 3)

    def test_loglevels(self) -> None:
        for severity in Severity.values.values():
            self.assertEqual(PythonTestHelpers.reflect_loglevel(severity), severity)

    def test_logfilter(self) -> None:
        self.assertEqual(PythonTestHelpers.reflect_logfilter(("foo", Severity.info)), ("foo", Severity.info))

    def test_logfilters(self) -> None:
        filters = [("foo", Severity.info), ("bar", Severity.notification)]
        self.assertEqual(PythonTestHelpers.reflect_logfilters(filters), filters)

    def test_optional_volume_id(self) -> None:
        for volume_id in (None, "volume"):
            self.assertEqual(PythonTestHelpers.reflect_maybe_volume_id(volume_id), volume_id)

    def test_maybe_chrono_seconds(self) -> None:
        for seconds in (None, 1234):
            self.assertEqual(PythonTestHelpers.reflect_maybe_chrono_seconds(seconds), seconds)

    def test_dimensioned_value(self) -> None:
        self.assertEqual(PythonTestHelpers.reflect_dimensioned_value("1B"), "1B")

    def test_uri(self) -> None:
        self.assertEqual(PythonTestHelpers.reflect_uri("tcp://127.0.0.1:1234"), "tcp://127.0.0.1:1234")

    def test_maybe_node_distance_map(self) -> None:
        for distances in ({}, {"n": 1}, None):
            self.assertEqual(PythonTestHelpers.reflect_maybe_node_distance_map(distances), distances)

    def test_failovercache_config(self) -> None:
        config = DTLConfig(mode=DTLMode.SYNCHRONOUS, host="h", port=1)
        self.assertEqual((config.mode, config.host, config.port), (DTLMode.SYNCHRONOUS, "h", 1))

    def test_cluster_contact(self) -> None:
        contact = ClusterContact(port=1, host="h")
        self.assertEqual((contact.host, contact.port), ("h", 1))


if __name__ == "__main__":
    unittest.main()
