"""Behaviours of the original: snapshots, clones, templates, scrubbing, what is on the backend."""

import threading
import unittest
from typing import List

from volumedriver.storagerouter.storagerouterclient import (
    InvalidOperationException,
    ObjectNotFoundException,
    ObjectStillHasChildrenException,
    ObjectType,
    PreviousSnapshotNotOnBackendException,
    SnapshotNameAlreadyExistsException,
    SnapshotNotFoundException,
)

from .behaviour import Behaviour
from .processes import OVS, until


class Snapshots(Behaviour):
    def test_snapshot_excessive_metadata(self) -> None:
        volume_id = self.volume()
        self.assertEqual(self.client.list_snapshots(volume_id), [])
        self.raised(RuntimeError, self.client.create_snapshot, volume_id, "s", "x" * 4097)
        self.assertEqual(self.client.list_snapshots(volume_id), [])
        self.client.create_snapshot(volume_id, "s", "x" * 4096)
        self.assertEqual(self.client.list_snapshots(volume_id), ["s"])

    def test_snapshot_metadata(self) -> None:
        volume_id = self.volume()
        metadata = b"\x80\x02bytes\x00\xff"
        name = self.client.create_snapshot(volume_id, metadata=metadata)
        info = self.client.info_snapshot(volume_id, name)
        self.assertEqual(info.snapshot_id, name)
        self.assertEqual(info.metadata.encode("utf-8", "surrogateescape"), metadata)
        self.assertTrue(info.timestamp.endswith("\n"))
        self.assertTrue(info.uuid)

    def test_snapshot_management(self) -> None:
        volume_id = self.volume()
        names = [f"s{number}" for number in range(10)]
        for name in names:
            self.write(volume_id, name.encode())
            until(lambda n=name: self.taken(volume_id, n), "the snapshot before is on the backend")  # type: ignore[misc]
        self.assertEqual(self.client.list_snapshots(volume_id), names)
        for name in names[::2]:
            self.client.delete_snapshot(volume_id, name)
        self.assertEqual(self.client.list_snapshots(volume_id), names[1::2])
        for call in (self.client.delete_snapshot, self.client.info_snapshot, self.client.rollback_volume):
            self.raised(SnapshotNotFoundException, call, volume_id, names[0])
        self.client.rollback_volume(volume_id, "s3")
        self.assertEqual(self.read(volume_id, 2), b"s3")
        self.assertEqual(self.client.list_snapshots(volume_id), ["s1", "s3"])

    def taken(self, volume_id: str, name: str) -> bool:
        try:
            self.client.create_snapshot(volume_id, name)
        except PreviousSnapshotNotOnBackendException:
            return False
        return True

    def test_snapshot_recreation(self) -> None:
        volume_id = self.volume()
        self.client.create_snapshot(volume_id, "s", wait=True)
        self.raised(SnapshotNameAlreadyExistsException, self.client.create_snapshot, volume_id, "s")
        self.client.delete_snapshot(volume_id, "s")
        self.client.create_snapshot(volume_id, "s")
        self.assertEqual(self.client.list_snapshots(volume_id), ["s"])


class Clones(Behaviour):
    def clone_of(self, parent: str, snapshot: str, at: str = "") -> str:
        volume_id = self.client.create_clone(f"/{self.name('c')}", None, parent, snapshot, at)
        self.addCleanup(self.removed, volume_id)
        return volume_id

    def from_template(self, parent: str) -> str:
        volume_id = self.client.create_clone_from_template(f"/{self.name('c')}", None, parent)
        self.addCleanup(self.removed, volume_id)
        return volume_id

    def test_set_as_template(self) -> None:
        volume_id = self.volume()
        self.client.set_volume_as_template(volume_id)
        self.client.set_volume_as_template(volume_id)
        self.assertEqual(self.client.info_volume(volume_id).object_type, ObjectType.TEMPLATE)
        self.raised(InvalidOperationException, self.client.create_snapshot, volume_id, "s")
        with self.client.make_locked_client(volume_id) as locked:
            self.raised(InvalidOperationException, locked.get_scrubbing_workunits)

    def test_clone(self) -> None:
        parent = self.volume()
        self.snapshots(parent, ["s"])
        self.write(parent, b"later")
        clone = self.clone_of(parent, "s")
        info = self.client.info_volume(clone)
        self.assertEqual((info.parent_volume_id, info.parent_snapshot_id), (parent, "s"))
        self.assertEqual(self.read(clone, 4), b"\x01" * 4)
        self.raised(ObjectNotFoundException, self.client.create_clone, "/no", None, "nowhere", "s")
        self.raised(SnapshotNotFoundException, self.client.create_clone, "/no", None, parent, "other")

    def test_clone_from_template(self) -> None:
        parent = self.volume()
        self.write(parent, b"base")
        self.raised(InvalidOperationException, self.client.create_clone_from_template, "/no", None, parent)
        self.client.set_volume_as_template(parent)
        clone = self.from_template(parent)
        info = self.client.info_volume(clone)
        self.assertEqual((info.parent_volume_id, info.object_type), (parent, ObjectType.BASE))
        self.assertEqual(self.read(clone, 4), b"base")
        self.raised(ObjectStillHasChildrenException, self.client.unlink, f"/{parent}")

    def test_remote_clone(self) -> None:
        parent = self.volume()
        self.snapshots(parent, ["s"])
        clone = self.clone_of(parent, "s", self.second.vrouter_id)
        self.assertEqual(self.client.info_volume(clone).vrouter_id, self.second.vrouter_id)
        self.assertEqual(self.read(clone, 4, self.second), b"\x01" * 4)

    def test_prevent_orphaned_clones(self) -> None:
        parent = self.volume()
        self.snapshots(parent, ["s"])
        clone = self.clone_of(parent, "s")
        self.raised(ObjectStillHasChildrenException, self.client.unlink, f"/{parent}")
        self.raised(ObjectStillHasChildrenException, self.client.delete_snapshot, parent, "s")
        self.assertEqual(self.client.list_snapshots(parent), ["s"])
        self.client.unlink(f"/{clone}")
        self.client.delete_snapshot(parent, "s")
        self.client.unlink(f"/{parent}")

    def test_prevent_rollback_beyond_clone(self) -> None:
        parent = self.volume()
        self.snapshots(parent, ["s1", "s2"])
        clone = self.clone_of(parent, "s2")
        self.raised(ObjectStillHasChildrenException, self.client.rollback_volume, parent, "s1")
        self.assertEqual(self.client.list_snapshots(parent), ["s1", "s2"])
        self.client.rollback_volume(parent, "s2")
        self.client.unlink(f"/{clone}")
        self.client.rollback_volume(parent, "s1")
        self.assertEqual(self.client.list_snapshots(parent), ["s1"])

    def test_no_clone_from_template_with_snapshot(self) -> None:
        parent = self.volume()
        self.client.set_volume_as_template(parent)
        self.raised(InvalidOperationException, self.client.create_clone, "/no", None, parent, "s")


class Scrubbing(Behaviour):
    def scrubbed(self, volume_id: str, works: int) -> None:
        """Scrubs all that there is to scrub, and waits until it is applied."""
        with self.client.make_locked_client(volume_id) as locked:
            units = locked.get_scrubbing_workunits()
            self.assertEqual(len(units), works)
            for unit in units:
                result = locked.scrub(unit, str(self.node.directory), scrubber_binary=OVS)
                locked.apply_scrubbing_result(result)
            until(lambda: locked.get_scrubbing_workunits() == [], "all results are applied")

    def test_scrubbing(self) -> None:
        volume_id = self.volume()
        self.snapshots(volume_id, ["s1", "s2"])
        content = self.read(volume_id)
        self.scrubbed(volume_id, 2)
        self.assertEqual(self.read(volume_id), content)

    def test_limit_scrub_work(self) -> None:
        volume_id = self.volume()
        self.snapshots(volume_id, ["s1", "s2", "s3"])
        with self.client.make_locked_client(volume_id) as locked:
            self.assertEqual(len(locked.get_scrubbing_workunits()), 3)
            self.assertEqual(len(locked.get_scrubbing_workunits(end_snapshot_id="s2")), 2)
            self.assertEqual(len(locked.get_scrubbing_workunits(start_snapshot_id="s2")), 1)

    def test_fine_grained_scrub_work(self) -> None:
        volume_id = self.volume()
        self.snapshots(volume_id, ["s1", "s2", "s3"])
        with self.client.make_locked_client(volume_id) as locked:
            # After the first, up to the second and with it.
            self.assertEqual(len(locked.get_scrubbing_workunits("s1", "s2")), 1)
            self.assertEqual(locked.get_scrubbing_workunits("s2", "s2"), [])
            self.raised(SnapshotNotFoundException, locked.get_scrubbing_workunits, "other", None)
            self.raised(SnapshotNotFoundException, locked.get_scrubbing_workunits, None, "other")

    def test_family_scrubbing(self) -> None:
        parent = self.volume()
        self.snapshots(parent, ["s1", "s2"])
        clone = self.client.create_clone(f"/{self.name('c')}", None, parent, "s2")
        self.addCleanup(self.removed, clone)
        content = self.read(clone)
        self.scrubbed(parent, 2)
        self.assertEqual(self.read(clone), content)
        self.assertGreater(self.client._scrub_manager_counters(self.node.vrouter_id).clone_scrubs_ok, 0)

    def test_templates_and_scrubbing(self) -> None:
        volume_id = self.volume()
        self.snapshots(volume_id, ["s"])
        self.client.set_volume_as_template(volume_id)
        with self.client.make_locked_client(volume_id) as locked:
            self.raised(InvalidOperationException, locked.get_scrubbing_workunits)

    def test_locked_scrub(self) -> None:
        volume_id = self.volume()
        self.snapshots(volume_id, ["s"])
        locked = self.client.make_locked_client(volume_id)
        with self.assertRaisesRegex(RuntimeError, "with"):
            locked.scrub("unit", "/tmp")
        self.scrubbed(volume_id, 1)

    def test_locked_client(self) -> None:
        volume_id, other = self.volume(), self.volume(at=self.second)
        inside: List[str] = []
        most: List[int] = []

        def work(volume: str) -> None:
            with self.client.make_locked_client(volume) as locked:
                inside.append(volume)
                most.append(inside.count(volume))
                self.assertEqual(locked.info_volume(volume).volume_id, volume)
                inside.remove(volume)

        threads = [threading.Thread(target=work, args=(v,)) for v in (volume_id, other, volume_id, volume_id)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(most, [1] * 4)
        # The locks of two volumes are two.
        with self.client.make_locked_client(volume_id), self.client.make_locked_client(other):
            pass
        with self.client.make_locked_client(volume_id, 1, 1), self.assertRaisesRegex(RuntimeError, "is locked by"):
            self.client.make_locked_client(volume_id, 1, 1).__enter__()
        outside = self.client.make_locked_client(volume_id)
        with self.assertRaisesRegex(RuntimeError, "with"):
            outside.get_scrubbing_workunits()
        with self.assertRaises(ObjectNotFoundException):
            self.client.make_locked_client("nowhere").__enter__()


class Backend(Behaviour):
    def test_backend_sync_tlog(self) -> None:
        volume_id = self.volume()
        self.write(volume_id, b"data")
        tlog = self.client.schedule_backend_sync(volume_id, wait=True)
        self.assertTrue(tlog.startswith("tlog_"))
        self.assertTrue(self.client.is_volume_synced_up_to_tlog(volume_id, tlog))

    def test_backend_sync_snapshot(self) -> None:
        volume_id = self.volume()
        self.write(volume_id, b"data")
        name = self.client.create_snapshot(volume_id, "s", wait=True)
        self.assertTrue(self.client.is_volume_synced_up_to_snapshot(volume_id, name))
        self.assertTrue(self.client.info_snapshot(volume_id, name).in_backend)
        self.raised(SnapshotNotFoundException, self.client.is_volume_synced_up_to_snapshot, volume_id, "other")


if __name__ == "__main__":
    unittest.main()
