"""What is in the configuration store: reading it, locks, registries. Against Debian's etcd and the node's own store."""

import os
import stat
import threading
import unittest
from typing import ClassVar, List, Optional, Tuple

from volumedriver.storagerouter import scrubber
from volumedriver.storagerouter.configuration import find, place
from volumedriver.storagerouter.lock import Lock
from volumedriver.storagerouter.storagerouterclient import (
    ArakoonNodeConfig,
    ClusterNodeConfig,
    ClusterNodeState,
    ClusterRegistry,
    DirectoryEntryType,
    FileSystemMetaDataClient,
    LocalStorageRouterClient,
    ObjectNotFoundException,
    ObjectRegistryClient,
    ObjectType,
)
from volumedriver.storagerouter.store import Compare, Store, StoreError, Write

from .processes import OVS, Etcd, Node, Process, until
from .stub import Rude, dead_contact


class Stores:
    """The tests, for each kind of store."""

    class Tests(unittest.TestCase):
        process: ClassVar[Process]
        address: ClassVar[Tuple[str, int]]

        @classmethod
        def tearDownClass(cls) -> None:
            cls.process.remove()

        def setUp(self) -> None:
            self.store = Store([self.address])
            self.folder = f"/ovs/vpools/{self.id().rsplit('.', 1)[-1]}/"

        def put(self, key: str, value: str) -> None:
            self.assertTrue(self.store.transact([], [Write(self.folder + key, value.encode())]))

        def members(self) -> List[ArakoonNodeConfig]:
            return [ArakoonNodeConfig("one", *self.address)]

        def test_reading_and_writing(self) -> None:
            self.assertIsNone(self.store.get(self.folder + "a"))
            self.put("a", "ä")
            pair = self.store.get(self.folder + "a")
            assert pair is not None
            self.assertEqual((pair.key, pair.value.decode()), (self.folder + "a", "ä"))
            stale = Compare(pair.key, pair.mod_revision - 1)
            self.assertFalse(self.store.transact([stale], [Write(pair.key, b"no")]))
            self.assertTrue(self.store.transact([Compare(pair.key, pair.mod_revision)], [Write(pair.key, None)]))
            self.assertIsNone(self.store.get(pair.key))

        def test_a_folder_is_read_in_pages(self) -> None:
            keys = [f"k{number:04}" for number in range(1100)]
            for begin in range(0, len(keys), 100):
                writes = [Write(self.folder + key, key.encode()) for key in keys[begin : begin + 100]]
                self.assertTrue(self.store.transact([], writes))
            self.put("k0000/x", "below")
            found = self.store.below(self.folder)
            self.assertEqual(len(found), 1101)
            self.assertEqual(sorted(pair.key for pair in found), [pair.key for pair in found])
            self.assertEqual([pair.value for pair in self.store.below(self.folder, keys_only=True)], [b""] * 1101)
            self.assertEqual(len(self.store.below(self.folder + "k0000/")), 1)

        def test_a_dead_endpoint_is_passed_over(self) -> None:
            dead = dead_contact()
            store = Store([(dead.host, dead.port), self.address], timeout_secs=10)
            self.assertTrue(store.transact([], [Write(self.folder + "a", b"1")]))
            self.assertEqual(store._endpoints[0], self.address)
            with self.assertRaisesRegex(StoreError, "cannot be reached"):
                Store([(dead.host, dead.port)], timeout_secs=5).get("/a")

        def test_a_change_whose_answer_is_lost_is_not_sent_again(self) -> None:
            with Rude() as rude:
                store = Store([(rude.host, rude.port), self.address], timeout_secs=10)
                with self.assertRaisesRegex(StoreError, "what became of a change is not known"):
                    store.transact([], [Write(self.folder + "a", b"1")])
                self.assertIsNone(store.get(self.folder + "a"), "a read goes on at the next endpoint")

        def test_an_error_has_the_words_of_the_store(self) -> None:
            with self.assertRaisesRegex(RuntimeError, "key is not provided"):
                self.store.get("")

        def lock(self, update: int = 1, grace: int = 1) -> Lock:
            return Lock(self.store, self.folder + "lock", update, grace)

        def test_a_lock_has_one_holder(self) -> None:
            one, other = self.lock(), self.lock()
            one.take()
            with self.assertRaisesRegex(RuntimeError, f"is locked by .*process {os.getpid()}"):
                other.take()
            self.assertFalse(one.lost.is_set(), "the holder renewed it while the other one waited")
            one.release()
            other.take()
            other.release()
            self.assertIsNone(self.store.get(self.folder + "lock"))

        def test_who_waits_gets_the_lock(self) -> None:
            inside: List[int] = []
            most: List[int] = []

            def work() -> None:
                lock = self.lock(2, 3)
                lock.take()
                inside.append(1)
                most.append(len(inside))
                inside.pop()
                lock.release()

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(most, [1] * 4)

        def test_a_lock_that_is_lost_kills_the_scrubber(self) -> None:
            lock = self.lock(1, 2)
            lock.take()
            self.addCleanup(lock.release)
            program = self.script('echo begun > "$0.begun"; exec sleep 600')

            def lose() -> None:
                until(lambda: os.path.exists(program + ".begun"), "the scrubber runs")
                self.store.revoke(lock._lease)

            thread = threading.Thread(target=lose)
            thread.start()
            with self.assertRaisesRegex(RuntimeError, "was killed: the lock was lost"):
                scrubber.run([program], lock)
            thread.join()
            self.assertTrue(lock.lost.is_set())

        def test_the_scrubbers_words(self) -> None:
            lock = self.lock(2, 3)
            lock.take()
            self.addCleanup(lock.release)
            self.assertEqual(scrubber.run([self.script('printf "%s" "$1"'), "result"], lock), "result")
            with self.assertRaisesRegex(RuntimeError, "exit code 3: no space"):
                scrubber.run([self.script("echo no space >&2; exit 3")], lock)
            with self.assertRaisesRegex(RuntimeError, "cannot be started"):
                scrubber.run(["/no/such/scrubber"], lock)

        def script(self, text: str) -> str:
            path = str(self.process.directory / f"script-{self.id().rsplit('.', 1)[-1]}-{abs(hash(text))}")
            with open(path, "w") as file:
                file.write(f"#!/bin/sh\n{text}\n")
            os.chmod(path, stat.S_IRWXU)
            return path

        def test_the_registry_of_nodes(self) -> None:
            registry = ClusterRegistry("registered", "unused", self.members())
            with self.assertRaisesRegex(RuntimeError, "cluster not registered registered"):
                registry.get_node_configs()
            configs = [ClusterNodeConfig(f"n{n}", "h", 1, 2, 3, node_distance_map={"n0": n}) for n in range(3)]
            registry.set_node_configs(configs)
            self.assertEqual(registry.get_node_configs(), configs)
            online = {f"n{n}": ClusterNodeState.ONLINE for n in range(3)}
            self.assertEqual(registry.get_node_status_map(), online)
            registry.set_node_configs(configs[:1])
            self.assertEqual(ClusterRegistry("registered", "", self.members()).get_node_configs(), configs[:1])
            registry.erase_node_configs()
            registry.erase_node_configs()
            self.assertRaises(RuntimeError, registry.get_node_configs)

        def test_nodes_that_are_refused(self) -> None:
            registry = ClusterRegistry("refused", "", self.members())
            node = ClusterNodeConfig("n", "h", 1, 2, 3)
            far = ClusterNodeConfig("far", "h", 1, 2, 3, node_distance_map={"nowhere": 1})
            for configs, problem in (([], "at least one"), ([node, node], "twice"), ([node, far], "nowhere")):
                with self.assertRaisesRegex(RuntimeError, problem):
                    registry.set_node_configs(configs)
            self.assertRaises(RuntimeError, registry.get_node_configs)

        def test_the_registry_of_volumes(self) -> None:
            registry = ObjectRegistryClient("volumes", "unused", self.members())
            self.assertEqual((registry.list(), registry.find("v")), ([], None))
            made = registry._register_base_volume("n1", "v", "ns")
            self.assertEqual((made.node_id(), made.object_id(), made.object_type()), ("n1", "v", ObjectType.BASE))
            with self.assertRaisesRegex(RuntimeError, "registered already"):
                registry._register_base_volume("n2", "v", "ns")
            with self.assertRaisesRegex(RuntimeError, "belongs to n1"):
                registry._migrate("v", "n2", "n3")
            self.assertEqual(registry._migrate("v", "n1", "n2").node_id(), "n2")
            self.assertEqual([(r.object_id(), r.node_id()) for r in registry.get_all_registrations()], [("v", "n2")])
            paths = FileSystemMetaDataClient("volumes", "unused", self.members())
            self.assertEqual((paths.lookup("v"), paths.list_path("/"), paths.list("/")), ("/v", ["v"], ["v"]))
            self.assertEqual(paths.find_path("/v").type(), DirectoryEntryType.VOLUME)
            self.assertEqual(paths.find_path("/").type(), DirectoryEntryType.DIRECTORY)
            self.assertRaises(ObjectNotFoundException, paths.lookup, "gone")
            with self.assertRaisesRegex(RuntimeError, "belongs to n2"):
                registry._unregister(made)
            found = registry.find("v")
            assert found is not None
            registry._unregister(found)
            self.assertEqual(registry.list(), [])

        def test_a_cluster_whose_id_is_not_its_vpools(self) -> None:
            self.put("hosts/n/config/volume_router_cluster", '{"vrouter_cluster_id": "other-name"}')
            self.put("volumes/v/config", '{"vrouter_id": "n"}')
            self.assertEqual(ObjectRegistryClient("other-name", "", self.members()).list(), ["v"])

        def url(self, rest: str) -> str:
            return f"etcd://{self.address[0]}:{self.address[1]}{rest}"

        def test_a_node_is_found_by_what_it_says_of_itself(self) -> None:
            path = self.folder + "hosts/n/config"
            with self.assertRaisesRegex(RuntimeError, "no such configuration"):
                find(self.url(path))
            self.put("hosts/n/config/scocache", "{}")
            with self.assertRaisesRegex(RuntimeError, "has not said where its admin RPC is"):
                LocalStorageRouterClient(self.url(path))
            self.put("hosts/n/last_status", '{"xmlrpc": "http://127.0.0.1:1/RPC2"}')
            found = find(self.url(path))
            self.assertEqual((found.vrouter_id, found.vrouter_cluster_id, found.port), ("n", path.split("/")[3], 1))
            self.put("hosts/n/status", '{"xmlrpc": "https://ovs:a%40b@[::1]:2/RPC2", "vrouter_cluster_id": "c"}')
            found = find(self.url(path) + "/")
            self.assertEqual((found.host, found.port, found.vrouter_cluster_id), ("::1", 2, "c"))
            self.assertEqual((found.token, found.is_encrypted), ("a@b", True))
            self.put("hosts/n/status", "nonsense")
            with self.assertRaisesRegex(RuntimeError, "/status"):
                find(self.url(path))


@unittest.skipUnless(Etcd.is_there(), "there is no etcd")
class WithEtcd(Stores.Tests):
    """Debian's etcd."""

    @classmethod
    def setUpClass(cls) -> None:
        etcd = Etcd()
        cls.process = etcd
        cls.addClassCleanup(etcd.remove)
        cls.address = ("127.0.0.1", etcd.up().port)


@unittest.skipUnless(OVS, "OVS_BINARY names no program")
class WithNode(Stores.Tests):
    """The store of a node."""

    @classmethod
    def setUpClass(cls) -> None:
        node = Node()
        cls.process = node
        cls.addClassCleanup(node.remove)
        cls.address = node.up().store()._endpoints[0]


class Locations(unittest.TestCase):
    """Locations that lead nowhere, and say so."""

    def refused(self, location: str, problem: str, error: Optional[type] = RuntimeError) -> None:
        with self.subTest(location), self.assertRaisesRegex(error or RuntimeError, problem):
            LocalStorageRouterClient(location)

    def test_what_is_refused(self) -> None:
        self.refused("", "is empty")
        self.refused("/no/such/directory", "no endpoints.json")
        self.refused("file:///no/such/directory", "no endpoints.json")
        self.refused("arakoon://c/x", "no Arakoon")
        self.refused("http://h/x", "give etcd://")
        self.refused("etcd://127.0.0.1:1/other", "the path must be")
        self.refused("etcd:///ovs/vpools/g/hosts/n/config", "is no HOST:PORT")
        self.refused("etcd://h:99999/ovs/vpools/g/hosts/n/config", "no port from 1")
        self.refused("etcd://h:x/ovs/vpools/g/hosts/n/config", "is no HOST:PORT")
        self.refused("etcd://::1/ovs/vpools/g/hosts/n/config", "is no HOST:PORT")
        self.refused("etcd://[::1/ovs/vpools/g/hosts/n/config", "is no HOST:PORT")
        self.refused("etcd://u:p@h/ovs/vpools/g/hosts/n/config", "no user and password")
        self.refused("etcd://h:1/ovs/vpools/g/hosts/n/config?cert=a", "go together")
        self.refused("etcd://h:1/ovs/vpools/g/hosts/n/config?colour=a", "not known")
        self.refused("etcd://h:1/ovs/vpools/g/hosts/n/config?cacert=/no/such", "cannot be read")

    def test_endpoints_of_a_url(self) -> None:
        store, path = place("etcd://a,b:1,[::1]:2/x%20y/")
        self.assertEqual(store._endpoints, [("a", 2379), ("b", 1), ("::1", 2)])
        self.assertEqual(path, "/x y")


if __name__ == "__main__":
    unittest.main()
