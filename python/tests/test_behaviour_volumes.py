"""Behaviours of the original: connections, redirects, listing, making and removing volumes, what is told of them."""

import contextlib
import itertools
import unittest
import xmlrpc.client
from typing import Any, Dict, List, Tuple

from volumedriver.storagerouter.storagerouterclient import (
    ClusterNotReachableException,
    DTLConfig,
    FileExistsException,
    InvalidOperationException,
    MaxRedirectsExceededException,
    MDSMetaDataBackendConfig,
    MDSNodeConfig,
    NodeNotReachableException,
    ObjectNotFoundException,
    ObjectType,
    ReadCacheBehaviour,
    ReadCacheMode,
    StorageRouterClient,
    VolumeInfo,
)

from .behaviour import MIB, Behaviour
from .stub import Stub, dead_contact


class Connection(Behaviour):
    def test_no_one_listening(self) -> None:
        client = StorageRouterClient(self.node.cluster_id, [dead_contact()], 10)
        self.assertRaises(ClusterNotReachableException, client.list_volumes)

    def test_wrong_cluster_id(self) -> None:
        client = StorageRouterClient("another", [self.node.contact], 10)
        with self.assertRaisesRegex(RuntimeError, "cluster id"):
            client.list_volumes()

    def test_max_redirects(self) -> None:
        volume_id = self.volume()
        with Stub(lambda *_: self.address()) as one, Stub(lambda *_: one.redirect()) as other:
            client = StorageRouterClient(self.node.cluster_id, [other.contact], 10)
            self.assertEqual(client.info_volume(volume_id).volume_id, volume_id)

    def test_max_redirects_exceeded(self) -> None:
        volume_id = self.volume()
        with contextlib.ExitStack() as stubs:
            one = stubs.enter_context(Stub(lambda *_: self.address()))
            two = stubs.enter_context(Stub(lambda *_: one.redirect()))
            three = stubs.enter_context(Stub(lambda *_: two.redirect()))
            client = StorageRouterClient(self.node.cluster_id, [three.contact], 10)
            self.assertRaises(MaxRedirectsExceededException, client.info_volume, volume_id)

    def address(self) -> Dict[str, str]:
        contact = self.node.contact
        return {"xmlrpc_redirect_host": contact.host, "xmlrpc_redirect_port": str(contact.port)}

    def test_fallback(self) -> None:
        volume_id = self.volume()
        contact = self.node.contact
        node = xmlrpc.client.ServerProxy(f"http://{contact.host}:{contact.port}/RPC2")
        listed: Any = node.system.listMethods

        def old(method: str, struct: Dict[str, Any]) -> Any:
            """A node that does not know the newest calls, and hands the others on."""
            if method == "system.listMethods":
                return [name for name in map(str, listed()) if not name.endswith("V3")]
            if method.endswith("V3"):
                raise xmlrpc.client.Fault(-1, f"{method}: unknown method name")
            return getattr(node, method)(struct)

        with node, Stub(old) as stub:
            client = StorageRouterClient(self.node.cluster_id, [stub.contact], 10)
            statistics = client.statistics_volume(volume_id)
            names = ["volumePerformanceCountersV3", "system.listMethods", "volumePerformanceCounters"]
            self.assertEqual(stub.methods, names)
        self.assertEqual(statistics.performance_counters.write_request_size.events(), 0)


class Redirect(Behaviour):
    def test_redirect(self) -> None:
        for owner in (self.node, self.second):
            volume_id = self.volume(at=owner)
            through = [driver.client().info_volume(volume_id) for driver in (self.node, self.second)]
            self.assertEqual(through[0], through[1])
            self.assertEqual(through[0].vrouter_id, owner.vrouter_id)
        for driver in (self.node, self.second):
            self.assertRaises(ObjectNotFoundException, driver.client().info_volume, "nowhere")

    def test_redirection_response(self) -> None:
        volume_id = self.volume(at=self.second)
        client = self.node.client()
        client.max_redirects = 0
        backend = MDSMetaDataBackendConfig([MDSNodeConfig("127.0.0.1", 1)])
        calls: List[Tuple[Any, Tuple[Any, ...]]] = [
            (client.info_volume, ()),
            (client.truncate, ("32MiB",)),
            (client.statistics_volume, ()),
            (client.create_snapshot, ("s",)),
            (client.list_snapshots, ()),
            (client.info_snapshot, ("s",)),
            (client.delete_snapshot, ("s",)),
            (client.rollback_volume, ("s",)),
            (client.set_volume_as_template, ()),
            (client.stop_object, (True,)),
            (client.restart_object, (False,)),
            (client.update_metadata_backend_config, (backend,)),
            (client.set_sync_ignore, (1, 2)),
            (client.get_sync_ignore, ()),
            (client.set_sco_multiplier, (1024,)),
            (client.get_sco_multiplier, ()),
            (client.set_tlog_multiplier, (4,)),
            (client.get_tlog_multiplier, ()),
            (client.set_sco_cache_max_non_disposable_factor, (1.5,)),
            (client.get_sco_cache_max_non_disposable_factor, ()),
            (client.set_metadata_cache_capacity, (8,)),
            (client.get_metadata_cache_capacity, ()),
            (client.set_readcache_behaviour, (ReadCacheBehaviour.NO_CACHE,)),
            (client.get_readcache_behaviour, ()),
            (client.set_readcache_mode, (ReadCacheMode.LOCATION_BASED,)),
            (client.get_readcache_mode, ()),
            (client.set_readcache_limit, (8,)),
            (client.get_readcache_limit, ()),
            (client.get_dtl_config_mode, ()),
            (client.get_dtl_config, ()),
            (client.set_manual_dtl_config, (DTLConfig("127.0.0.1", 1),)),
            (client.set_automatic_dtl_config, ()),
            (client.schedule_backend_sync, ()),
            (client.is_volume_synced_up_to_tlog, ("tlog_x",)),
            (client.is_volume_synced_up_to_snapshot, ("s",)),
        ]
        address = f"127.0.0.1:{self.second.contact.port}"
        led = 0
        for call, arguments in calls:
            with self.subTest(call.__name__):
                try:
                    said = self.raised(MaxRedirectsExceededException, call, volume_id, *arguments)
                except InvalidOperationException as later:
                    self.assertIn("comes with", str(later))
                    continue
                self.assertIn(address, said)
                led += 1
        self.assertGreaterEqual(led, 3, "info, size, statistics at least")
        # Three that name the node that shall answer.
        node_calls: List[Any] = [client.list_volumes, client.statistics_node, client.volume_potential]
        for node_call in node_calls:
            with self.subTest(node_call.__name__):
                self.assertIn(address, self.raised(MaxRedirectsExceededException, node_call, self.second.vrouter_id))
        with self.assertRaisesRegex(RuntimeError, "nobody"):
            self.node.client().list_volumes("nobody")


class Listing(Behaviour):
    def test_list_volumes(self) -> None:
        before = set(self.client.list_volumes())
        made = {self.volume() for _ in range(3)} | {self.volume(at=self.second)}
        for driver in (self.node, self.second):
            self.assertEqual(set(driver.client().list_volumes()), before | made)

    def test_list_volumes_by_path(self) -> None:
        volume_id, other = self.volume(), self.volume(at=self.second)
        for driver in (self.node, self.second):
            paths = driver.client().list_volumes_by_path()
            self.assertIn(f"/{volume_id}", paths)
            self.assertIn(f"/{other}", paths)

    def test_list_volumes_by_node(self) -> None:
        here, there = self.volume(), self.volume(at=self.second)
        for asked, through in itertools.product((self.node, self.second), repeat=2):
            found = through.client().list_volumes(asked.vrouter_id)
            expected = (True, False) if asked is self.node else (False, True)
            self.assertEqual((here in found, there in found), expected)

    def test_volume_and_object_id(self) -> None:
        volume_id = self.volume()
        for path in (f"/{volume_id}", volume_id):
            self.assertEqual(self.client.get_volume_id(path), volume_id)
            self.assertEqual(self.client.get_object_id(path), volume_id)
        self.assertIsNone(self.client.get_volume_id("/nowhere"))
        self.assertIsNone(self.client.get_object_id("/nowhere"))

    def test_pylist(self) -> None:
        volume_id = self.volume()
        found = self.client.list_volumes()
        self.assertIs(type(found), list)
        self.assertEqual(sorted(set(found)), sorted(found))
        self.assertEqual(list(self.client), found)
        self.assertIn(volume_id, [info.volume_id for info in self.client.volumes()])

    def test_list_methods(self) -> None:
        names = self.client._caller.names()
        self.assertEqual(len(set(names)), len(names))
        missing = {"volumeCreate", "volumesList", "volumeInfo", "updateConfiguration", "system.listMethods"} - set(
            names
        )
        self.assertEqual(missing, set())
        self.assertEqual(len([name for name in names if not name.startswith("system.")]), 91)


class Creation(Behaviour):
    def test_volume_creation(self) -> None:
        path = f"/{self.name()}"
        self.assertIsNone(self.client.get_volume_id(path))
        volume_id = self.client.create_volume(path, None, "1GiB")
        self.addCleanup(self.removed, volume_id)
        self.assertIn(volume_id, self.client.list_volumes())
        info = self.client.info_volume(volume_id)
        self.assertEqual(
            (info.volume_id, info.volume_size, info.vrouter_id), (volume_id, 1 << 30, self.node.vrouter_id)
        )
        self.assertEqual((info.object_type, info.halted, info.parent_volume_id), (ObjectType.BASE, False, ""))
        self.assertEqual(info.lba_size * info.lba_count, info.volume_size)
        self.assertTrue(info.namespace)
        self.assertRaises(FileExistsException, self.client.create_volume, path, None, "1GiB")
        for size in ("many", "-1GiB", "10 parsecs", ""):
            with self.subTest(size=size), self.assertRaises(RuntimeError):
                self.client.create_volume(f"/{self.name('no')}", None, size)
        self.assertFalse([name for name in self.client.list_volumes() if name.startswith("no")])

    def test_volume_creation_again(self) -> None:
        """Without a metadata backend, of a size that is given later."""
        volume_id = self.volume("512B")
        self.assertIsNone(self.client.info_volume(volume_id).metadata_backend_config)
        self.client.truncate(volume_id, "1GiB")
        self.assertEqual(self.client.info_volume(volume_id).volume_size, 1 << 30)

    def test_volume_creation_and_removal(self) -> None:
        volume_id = self.volume()
        self.client.unlink(f"/{volume_id}")
        self.assertNotIn(volume_id, self.client.list_volumes())
        self.assertRaises(ObjectNotFoundException, self.client.info_volume, volume_id)
        self.assertIsNone(self.client.get_volume_id(f"/{volume_id}"))
        with self.assertRaises((RuntimeError, ObjectNotFoundException)):
            self.client.unlink(f"/{volume_id}")
        again = self.client.create_volume(f"/{volume_id}", None, "16MiB")
        self.assertEqual(again, volume_id)

    def test_volume_resize(self) -> None:
        for owner in (self.node, self.second):
            volume_id = self.volume("16MiB", owner)
            self.write(volume_id, b"kept", at=owner)
            self.client.truncate(volume_id, "32MiB")
            self.assertEqual(self.client.info_volume(volume_id).volume_size, 32 * MIB)
            self.raised(RuntimeError, self.client.truncate, volume_id, "16MiB")
            self.assertEqual(self.client.info_volume(volume_id).volume_size, 32 * MIB)
            self.assertEqual(self.read(volume_id, 4, owner), b"kept")


class Information(Behaviour):
    def test_volume_queries(self) -> None:
        volume_id = self.volume()
        info = self.client.info_volume(volume_id)
        # With a DTL it is OK_SYNC; there is none yet.
        self.assertEqual(info.failover_mode.lower(), "ok_standalone")
        self.assertEqual((info.failover_ip, info.failover_port), ("", 0))
        fields = [name for name, value in info.__class__.__dict__.items() if type(value) is property]
        self.assertEqual(len(fields), 22)
        for field in fields:
            getattr(info, field)
        self.assertNotEqual(info, VolumeInfo())
        self.assertEqual(info, self.client.info_volume(volume_id, redirect_fenced=False))

    def test_performance_counters(self) -> None:
        here, there = self.volume(), self.volume(at=self.second)
        for driver in (self.node, self.second):
            self.client.statistics_node(driver.vrouter_id, reset=True)
        with self.opened(here) as nbd:
            nbd.write(0, b"1234" * 1024)
            nbd.flush()
            for cluster in range(3):
                nbd.read(cluster * 4096, 4096)
        counters = self.client.statistics_volume(here).performance_counters
        self.assertEqual(counters.write_request_size.events(), 1)
        self.assertEqual(counters.write_request_size.sum(), 4096)
        self.assertEqual(counters.read_request_size.events(), 3)
        self.assertEqual(counters.read_request_size.sum(), 3 * 4096)
        self.assertEqual(counters.sync_request_usecs.events(), 1)
        # 4 KiB are not below 4 KiB.
        self.assertEqual(counters.write_request_size.distribution()[8192], 1)
        self.assertEqual(counters.read_request_size.sum_of_squares(), 3 * 4096**2)
        self.assertEqual((counters.read_request_size.min(), counters.read_request_size.max()), (4096, 4096))
        written = counters.write_request_usecs
        self.assertEqual((written.events(), written.min(), written.max()), (1, written.sum(), written.sum()))
        self.assertEqual(written.sum_of_squares(), written.sum() ** 2)
        self.assertEqual(self.client.statistics_volume(there).performance_counters.write_request_size.events(), 0)
        of_node = self.client.statistics_node(self.node.vrouter_id, reset=True).performance_counters
        self.assertEqual(of_node.write_request_size.events(), 1)
        of_other = self.client.statistics_node(self.second.vrouter_id).performance_counters
        self.assertEqual(of_other.write_request_size.events(), 0)
        after = self.client.statistics_node(self.node.vrouter_id).performance_counters
        self.assertEqual((after.write_request_size.events(), after.read_request_size.events()), (0, 0))

    def test_volume_potential(self) -> None:
        for driver in (self.node, self.second):
            self.assertGreater(self.client.volume_potential(driver.vrouter_id), 0)

    def test_revision_info(self) -> None:
        for text in (self.client.server_revision(), self.client.client_revision()):
            lines = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
            self.assertTrue(lines["version"])

    def test_sco_cache_mount_point_info(self) -> None:
        places = self.client.sco_cache_mount_point_info(self.node.vrouter_id)
        self.assertTrue(places)
        for place in places:
            self.assertTrue(place.path)
            self.assertGreater(place.capacity, 0)
            self.assertLessEqual(place.used, place.capacity)
            self.assertFalse(place.offlined)

    def test_a_silent_owner(self) -> None:
        """A node that stands still is not reachable through another one, and all is well when it goes on."""
        volume_id = self.volume(at=self.second)
        self.second.pause()
        try:
            with self.assertRaises(NodeNotReachableException):
                self.client.info_volume(volume_id, req_timeout_secs=3)
        finally:
            self.second.resume()
        self.assertEqual(self.client.info_volume(volume_id).vrouter_id, self.second.vrouter_id)


if __name__ == "__main__":
    unittest.main()
