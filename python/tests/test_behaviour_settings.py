"""Behaviours of the original: settings of volumes, DTL and MDS, the cluster, fencing, a node's own configuration."""

import json
import queue
import threading
import unittest
import urllib.request
from pathlib import Path
from typing import Any, Callable

from volumedriver.storagerouter.storagerouterclient import (
    ClusterNodeState,
    ConfigurationUpdateException,
    DTLConfig,
    DTLConfigMode,
    DTLMode,
    InvalidOperationException,
    MaxRedirectsExceededException,
    MDSClient,
    MDSMetaDataBackendConfig,
    MDSNodeConfig,
    ObjectNotFoundException,
    ObjectRegistryClient,
    ReadCacheBehaviour,
    ReadCacheMode,
    Severity,
    VolumeHaltedException,
)

from .behaviour import Behaviour
from .nbd import Nbd
from .not_yet import ALL, LATER, NEVER
from .processes import SMALL, Node, until


class Settings(Behaviour):
    def changed(self, getter: Callable[[str], Any], setter: Callable[[str, Any], None], *values: Any) -> str:
        """Sets values one after the other, and finds each."""
        volume_id = self.volume()
        for value in values:
            setter(volume_id, value)
            self.assertEqual(getter(volume_id), value)
        return volume_id

    def test_sync_ignore(self) -> None:
        volume_id = self.volume()
        self.client.set_sync_ignore(volume_id, 10, 20)
        expected = {"number_of_syncs_to_ignore": 10, "maximum_time_to_ignore_syncs_in_seconds": 20}
        self.assertEqual(self.client.get_sync_ignore(volume_id), expected)
        self.assertEqual(self.client.get_sync_ignore(self.volume()), dict.fromkeys(expected, 0))
        with self.opened(volume_id) as nbd:
            for cluster in range(12):
                nbd.write(cluster * 4096, b"1234" * 1024)
                nbd.flush()
        with urllib.request.urlopen(f"{self.node.endpoints['http']}/metrics", timeout=60) as answer:
            shown = answer.read().decode()
        self.assertIn(f'ovs_volume_ignored_flushes_total{{volume="{volume_id}"}} 10', shown)

    def test_sco_multiplier(self) -> None:
        client = self.client
        volume_id = self.changed(client.get_sco_multiplier, client.set_sco_multiplier, 512, 1024)
        self.raised(InvalidOperationException, client.set_sco_multiplier, volume_id, 1)
        self.assertEqual(client.get_sco_multiplier(volume_id), 1024)

    def test_tlog_multiplier(self) -> None:
        client = self.client
        self.assertIsNone(client.get_tlog_multiplier(self.volume()))
        self.changed(client.get_tlog_multiplier, client.set_tlog_multiplier, 8, None)

    def test_max_non_disposable_factor(self) -> None:
        client = self.client
        get, change = client.get_sco_cache_max_non_disposable_factor, client.set_sco_cache_max_non_disposable_factor
        self.assertIsNone(get(self.volume()))
        volume_id = self.changed(get, change, 1.5, None, 2.0)
        self.raised(InvalidOperationException, change, volume_id, 0.99)
        self.assertEqual(get(volume_id), 2.0)

    def test_cluster_cache_behaviour(self) -> None:
        client = self.client
        values = [*ReadCacheBehaviour.values.values(), None]
        self.changed(client.get_readcache_behaviour, client.set_readcache_behaviour, *values)

    def test_cluster_cache_mode(self) -> None:
        client = self.client
        values = (None, ReadCacheMode.CONTENT_BASED, ReadCacheMode.LOCATION_BASED)
        volume_id = self.changed(client.get_readcache_mode, client.set_readcache_mode, *values)
        self.raised(RuntimeError, client.set_readcache_mode, volume_id, ReadCacheMode.CONTENT_BASED)
        self.assertEqual(client.get_readcache_mode(volume_id), ReadCacheMode.LOCATION_BASED)

    def test_cluster_cache_limit(self) -> None:
        client = self.client
        volume_id = self.changed(client.get_readcache_limit, client.set_readcache_limit, 100, None, 7)
        self.raised(RuntimeError, client.set_readcache_limit, volume_id, 0)

    def test_metadata_cache_capacity(self) -> None:
        client = self.client
        self.assertIsNone(client.get_metadata_cache_capacity(self.volume()))
        volume_id = self.changed(client.get_metadata_cache_capacity, client.set_metadata_cache_capacity, 256, None)
        self.raised(RuntimeError, client.set_metadata_cache_capacity, volume_id, 0)

    def test_failovercache_config(self) -> None:
        client, volume_id = self.client, self.volume()
        self.assertEqual(client.get_dtl_config_mode(volume_id), DTLConfigMode.AUTOMATIC)
        host, port = self.second.endpoints["dtl"].rsplit(":", 1)
        config = DTLConfig(host, int(port), DTLMode.SYNCHRONOUS)
        client.set_manual_dtl_config(volume_id, config)
        self.assertEqual(client.get_dtl_config_mode(volume_id), DTLConfigMode.MANUAL)
        self.assertEqual(client.get_dtl_config(volume_id), config)
        until(lambda: client.info_volume(volume_id).failover_mode == "OK_SYNC", "the DTL is in step")
        client.set_manual_dtl_config(volume_id, None)
        self.assertIsNone(client.get_dtl_config(volume_id))
        self.assertEqual(client.info_volume(volume_id).failover_mode, "OK_STANDALONE")
        client.set_manual_dtl_config(volume_id, DTLConfig("127.0.0.1", 1))
        until(lambda: client.info_volume(volume_id).failover_mode == "DEGRADED", "nobody is there")
        client.set_automatic_dtl_config(volume_id)
        self.assertEqual(client.get_dtl_config_mode(volume_id), DTLConfigMode.AUTOMATIC)


class MetaDataServers(Behaviour):
    def mds(self) -> MDSNodeConfig:
        MDSClient(MDSNodeConfig("127.0.0.1", 1)).list_namespaces()
        host, port = self.node.endpoints["mds"].rsplit(":", 1)
        return MDSNodeConfig(host, int(port))

    def test_mds_management(self) -> None:
        one, other = self.mds(), MDSNodeConfig("127.0.0.1", 2)
        config = MDSMetaDataBackendConfig([one, other])
        volume_id = self.client.create_volume(f"/{self.name()}", config, "16MiB")
        for order in ([other, one], [one, other]):
            self.client.update_metadata_backend_config(volume_id, MDSMetaDataBackendConfig(order))
            found = self.client.info_volume(volume_id).metadata_backend_config
            assert isinstance(found, MDSMetaDataBackendConfig)
            self.assertEqual(found.node_configs(), order)

    def test_mds_kaputt(self) -> None:
        config = MDSMetaDataBackendConfig([self.mds()])
        volume_id = self.client.create_volume(f"/{self.name()}", config, "16MiB")
        self.write(volume_id, b"data")
        self.raised(RuntimeError, MDSClient(self.mds()).remove_namespace, self.client.info_volume(volume_id).namespace)
        self.assertRaises(OSError, self.read, volume_id)
        self.assertTrue(self.client.info_volume(volume_id).halted)


class Cluster(Behaviour):
    def test_update_cluster_node_configs(self) -> None:
        online = {self.node.vrouter_id: ClusterNodeState.ONLINE, "second": ClusterNodeState.ONLINE}
        self.client.update_cluster_node_configs()
        self.client.update_cluster_node_configs(self.second.vrouter_id)
        for driver in (self.node, self.second):
            self.assertEqual(driver.client().info_cluster(), online)
        with self.assertRaisesRegex(RuntimeError, "nobody"):
            self.client.update_cluster_node_configs("nobody")

    def test_restart_volume(self) -> None:
        volume_id = self.volume(at=self.second)
        self.write(volume_id, b"kept", at=self.second)
        self.client.stop_object(volume_id, False)
        self.raised(MaxRedirectsExceededException, self.client.info_volume, volume_id)
        self.client.restart_object(volume_id, False, wait=True)
        self.assertEqual(self.client.info_volume(volume_id).vrouter_id, self.second.vrouter_id)
        self.assertEqual(self.read(volume_id, 4, self.second), b"kept")

    def test_list_snapshots_while_migrating(self) -> None:
        volume_id = self.volume()
        self.snapshots(volume_id, ["s"])
        self.client.migrate(volume_id, self.second.vrouter_id, False)
        until(lambda: self.listed(volume_id) == ["s"], "the volume runs there")
        self.assertEqual(self.client.info_volume(volume_id).vrouter_id, self.second.vrouter_id)

    def listed(self, volume_id: str) -> Any:
        try:
            return self.client.list_snapshots(volume_id)
        except MaxRedirectsExceededException:
            return None


class Fencing(Behaviour):
    def fenced(self) -> str:
        """A volume of the second driver that the node took while that one stood still."""
        volume_id = self.volume(at=self.second)
        self.second.pause()
        try:
            self.client.mark_node_offline(self.second.vrouter_id)
            self.client.migrate(volume_id, self.node.vrouter_id, True, wait=True)
        finally:
            self.second.resume()
        self.client.mark_node_online(self.second.vrouter_id)
        return volume_id

    def test_fenced_volume_info(self) -> None:
        volume_id = self.fenced()
        through = self.second.client()
        self.assertEqual(through.info_volume(volume_id).vrouter_id, self.node.vrouter_id)
        stale = through.info_volume(volume_id, redirect_fenced=False)
        self.assertEqual((stale.halted, stale.vrouter_id), (True, self.second.vrouter_id))

    def test_redirection_on_fencing(self) -> None:
        volume_id = self.fenced()
        self.assertEqual(self.second.client().list_snapshots(volume_id), [])

    def test_stop_fenced_instance(self) -> None:
        volume_id = self.fenced()
        self.client.stop_object(volume_id, True, node_id=self.second.vrouter_id)
        self.assertEqual(self.client.list_halted_volumes(self.second.vrouter_id), [])
        self.assertEqual(self.client.info_volume(volume_id).vrouter_id, self.node.vrouter_id)


class Halted(Behaviour):
    """A node of its own, one of whose volumes has a damaged log."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.broken = Node()
        cls.addClassCleanup(cls.broken.remove)
        client = cls.broken.up("--volume", "victim=16MiB", "--volume", "other=16MiB").client()
        assert client.list_halted_volumes(cls.broken.vrouter_id) == []
        with Nbd(cls.broken.endpoints["nbd"], "victim") as nbd:
            for cluster in range(64):
                nbd.write(cluster * 4096, f"victim{cluster:04}".encode().ljust(4096, b"x"))
                if cluster == 62:
                    nbd.flush()
        cls.broken.kill()
        cls.damage(b"victim0020")
        cls.broken.up()

    broken: Node

    @classmethod
    def damage(cls, mark: bytes) -> None:
        """Changes a bit of the log behind a mark."""
        for path in Path(cls.broken.data).rglob("*"):
            if path.is_file() and mark in (content := path.read_bytes()):
                at = content.index(mark) + 2000
                with open(path, "r+b") as file:
                    file.seek(at)
                    file.write(bytes([content[at] ^ 0x10]))
                return
        raise AssertionError(f"{mark!r} is in no file")

    def test_list_halted_volumes(self) -> None:
        client = self.broken.client()
        self.assertEqual(client.list_halted_volumes(self.broken.vrouter_id), ["victim"])
        self.assertEqual(sorted(client.list_volumes()), ["other", "victim"])

    def test_halted_volume_exception(self) -> None:
        client = self.broken.client()
        info = client.info_volume("victim")
        self.assertTrue(info.halted)
        self.assertFalse(client.info_volume("other").halted)
        said = self.raised(VolumeHaltedException, client.statistics_volume, "victim")
        self.assertIn("victim", said)
        for call in (client.list_snapshots, client.get_dtl_config):
            with self.subTest(call.__name__):
                try:
                    self.raised(VolumeHaltedException, call, "victim")
                except InvalidOperationException as later:
                    self.skipTest(f"later: {later}")


class OwnConfiguration(Behaviour):
    """A node that is found by its configuration, and that changes it."""

    def setUp(self) -> None:
        super().setUp()
        self.local = self.second.local()

    def configured(self, section: str, **values: Any) -> None:
        """Stores a document; what was there before comes back after the test."""
        self.second.configure(section, {**SMALL.get(section, {}), **values})
        self.addCleanup(self.local.update_configuration, self.second.config_url)
        self.addCleanup(self.second.configure, section, SMALL.get(section, {}))

    def test_get_running_configuration(self) -> None:
        short = json.loads(self.local.get_running_configuration())
        all_of_it = json.loads(self.local.get_running_configuration(report_defaults=True))
        self.assertEqual(all_of_it["scocache"]["segment_size"], short["scocache"]["segment_size"])
        self.assertIn("trigger_gap", all_of_it["scocache"])
        self.assertNotIn("trigger_gap", short["scocache"])
        by_url = type(self.local)(self.second.config_url, 60)
        self.assertEqual(json.loads(by_url.get_running_configuration()), short)
        self.assertEqual((by_url.vrouter_id, by_url.configuration_url), ("second", self.second.config_url))

    def test_update_configuration(self) -> None:
        self.assertEqual(self.local.update_configuration(self.second.config_url), [])
        # One that can change while it runs, one that waits for a restart.
        self.configured("volume_manager", record_size="128KiB", data_threads=2)
        applied = self.local.update_configuration(self.second.config_url)
        self.assertEqual([change["param_name"] for change in applied], ["record_size"])
        self.assertEqual(sorted(applied[0]), ["new_value", "old_value", "param_name"])
        self.assertIn("128", applied[0]["new_value"])
        self.assertEqual([change["param_name"] for change in applied.pending_restart], ["data_threads"])
        self.assertTrue(applied.feedback_id)
        running = self.local.running_configuration(report_defaults=True)
        self.assertEqual(running["volume_manager"]["data_threads"], 1)

        self.second.configure("volume_manager", {**SMALL["volume_manager"], "record_size": "no size"})
        with self.assertRaises(ConfigurationUpdateException) as caught:
            self.local.update_configuration(self.second.config_url)
        (problem,) = caught.exception.problems
        self.assertEqual((problem.component_name, problem.param_name), ("volume_manager", "record_size"))
        self.assertTrue(problem.problem)
        self.assertIn("record_size", str(caught.exception))
        after = self.local.running_configuration(report_defaults=True)
        self.assertEqual(after["volume_manager"], running["volume_manager"])

    def test_feedback(self) -> None:
        """Not among the 72: what a node answers stays in the store, and can be watched."""
        self.assertIsNone(self.local.feedback("never"))
        self.configured("volume_manager", record_size="64KiB")
        seen: queue.Queue[Any] = queue.Queue()
        watch = self.local.watch_feedback(60)
        thread = threading.Thread(target=lambda: seen.put(next(watch)), daemon=True)
        thread.start()

        def told() -> bool:
            # Whether the watch has begun is not to be seen: updates go on until it tells of one.
            self.applied = self.local.update_configuration(self.second.config_url)
            return not seen.empty()

        until(told, "the watch tells")
        answer = seen.get()
        self.assertEqual((answer["outcome"], answer["node"]), ("applied", "second"))
        stored = self.local.feedback(self.applied.feedback_id)
        assert stored is not None
        self.assertEqual((stored["id"], stored["outcome"]), (self.applied.feedback_id, "applied"))
        with self.assertRaisesRegex(TimeoutError, "feedback/ within 1 s"):
            next(self.local.watch_feedback(1))

    def test_updating_from_a_file(self) -> None:
        """Not among the 72: a file is imported, or nothing of it."""
        self.configured("scocache")
        path = self.second.directory / "new.json"
        path.write_text(json.dumps({"scocache": {**SMALL["scocache"], "trigger_gap": "512MiB"}}))
        applied = self.local.update_configuration(str(path))
        self.assertEqual([change["param_name"] for change in applied], ["trigger_gap"])
        path.write_text(json.dumps({"scocache": {**SMALL["scocache"], "trigger_gap": "nothing"}}))
        with self.assertRaises(ConfigurationUpdateException):
            self.local.update_configuration(str(path))
        # What was rejected was not stored either.
        self.assertEqual(self.local.update_configuration(self.second.config_url), [])
        for unreadable in ("/no/such/file", "arakoon://c/x"):
            with self.subTest(unreadable), self.assertRaises(RuntimeError) as caught:
                self.local.update_configuration(unreadable)
            self.assertNotIsInstance(caught.exception, ConfigurationUpdateException)

    def test_general_loglevel(self) -> None:
        before = self.local.get_general_logging_level()
        self.addCleanup(self.local.set_general_logging_level, before)
        for severity in (Severity.debug, Severity.error, Severity.warning, Severity.trace, Severity.info):
            self.local.set_general_logging_level(severity)
            self.assertEqual(self.local.get_general_logging_level(), severity)

    def test_logging_filters(self) -> None:
        self.addCleanup(self.local.remove_logging_filters)
        self.local.remove_logging_filters()
        self.assertEqual(self.local.list_logging_filters(), [])
        self.local.add_logging_filter("volumedriver", Severity.debug)
        self.local.add_logging_filter("cfg_client", Severity.error)
        both = [("cfg_client", Severity.error), ("volumedriver", Severity.debug)]
        self.assertEqual(sorted(self.local.list_logging_filters()), both)
        self.local.remove_logging_filter("cfg_client")
        self.local.remove_logging_filter("unknown")
        self.assertEqual(self.local.list_logging_filters(), both[1:])
        self.local.remove_logging_filters()
        self.assertEqual(self.local.list_logging_filters(), [])

    def test_malloc_info(self) -> None:
        self.assertTrue(self.local.malloc_info())

    def test_cluster_cache_handles(self) -> None:
        for handle in self.local.list_cluster_cache_handles():
            self.assertGreaterEqual(self.local.get_cluster_cache_handle_info(handle).entries, 0)
            self.local.remove_cluster_cache_handle(handle)
        self.assertEqual(self.local.list_cluster_cache_handles(), [])

    def test_remove_sco_cache_namespace(self) -> None:
        volume_id = self.volume(at=self.second)
        namespace = self.client.info_volume(volume_id).namespace
        self.raised((RuntimeError, InvalidOperationException), self.local._remove_namespace_from_sco_cache, namespace)
        self.assertEqual(self.client.info_volume(volume_id).volume_id, volume_id)
        self.client.stop_object(volume_id, False)
        self.local._remove_namespace_from_sco_cache(namespace)


class Clients(Behaviour):
    """Not among the 72: who is connected."""

    def test_who_is_connected(self) -> None:
        for owner in (self.node, self.second):
            volume_id = self.volume(at=owner)
            with self.opened(volume_id, owner) as nbd:
                nbd.flush()
                found = self.client.list_client_connections(owner.vrouter_id)
                (mine,) = [client for client in found if client.object_id == volume_id]
                self.assertEqual((mine.ip, mine.port), nbd.address)

            def gone(driver: Any = owner, name: str = volume_id) -> bool:
                connected = self.client.list_client_connections(driver.vrouter_id)
                return name not in [client.object_id for client in connected]

            until(gone, "the driver knows that the client has gone")


class Registered(Behaviour):
    """Not among the 72: what registries say of volumes that nodes made."""

    def test_the_owner_of_a_volume(self) -> None:
        registry = ObjectRegistryClient(self.node.cluster_id, "", self.node.members())
        for owner in (self.node, self.second):
            volume_id = self.volume(at=owner)
            found = registry.find(volume_id)
            assert found is not None
            self.assertEqual((found.object_id(), found.node_id()), (volume_id, owner.vrouter_id))
            self.assertIn(volume_id, registry.list())
            self.client.unlink(f"/{volume_id}")
            self.assertIsNone(registry.find(volume_id))
            self.assertRaises(ObjectNotFoundException, self.client.info_volume, volume_id)


class Completeness(unittest.TestCase):
    """The list of behaviours and the tests agree."""

    def test_all_72_are_here(self) -> None:
        from . import test_behaviour_snapshots, test_behaviour_volumes

        names = [name for group in ALL.values() for name in group.split()]
        self.assertEqual((len(names), len(set(names))), (72, 72))
        classes = [
            value
            for module in (vars(test_behaviour_snapshots), vars(test_behaviour_volumes), globals())
            for value in module.values()
            if isinstance(value, type) and issubclass(value, Behaviour)
        ]
        tested = {n[len("test_") :] for kind in classes for n in vars(kind) if n.startswith("test_")}
        self.assertEqual(set(names) - tested, set(NEVER))
        self.assertEqual(set(LATER) - tested, set())


if __name__ == "__main__":
    unittest.main()
