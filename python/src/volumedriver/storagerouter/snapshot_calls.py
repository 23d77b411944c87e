"""Calls about snapshots, and about what is on the backend."""

import xmlrpc.client
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Union

from . import waiting, wire
from .snapshot_info import SnapshotInfo
from .volume_calls import Calls, texts


class SnapshotCalls(Calls):
    """Snapshots, and whether data are on the backend."""

    def create_snapshot(
        self,
        volume_id: str,
        snapshot_id: str = "",
        metadata: Union[str, bytes] = "",
        req_timeout_secs: Optional[int] = None,
        *,
        wait: bool = False,
        wait_timeout_secs: float = waiting.WAIT_TIMEOUT_SECS,
        progress: Optional[waiting.Listener] = None,
    ) -> str:
        """Keep what the volume holds now under a name; returns the name, which the server chooses if it is empty.

        ``metadata`` (at most 4096 bytes) is kept along. With ``wait``, until it is on the backend. Raises
        ObjectNotFoundException, InvalidOperationException (a template), PreviousSnapshotNotOnBackendException,
        SnapshotNameAlreadyExistsException.
        """
        if isinstance(metadata, str):
            metadata = metadata.encode("utf-8", "surrogateescape")
        if not isinstance(metadata, bytes):
            raise TypeError(f"metadata must be a str or bytes, not {type(metadata).__name__}")
        arguments: Dict[str, Any] = {"snapshot_id": wire.text_argument("snapshot_id", snapshot_id)}
        if metadata:
            arguments["metadata"] = xmlrpc.client.Binary(metadata)
        name = str(self._of_volume("snapshotCreate", volume_id, req_timeout_secs, arguments))
        if wait:
            waiting.until(
                lambda: self.is_volume_synced_up_to_snapshot(volume_id, name),
                "snapshot",
                volume_id,
                wait_timeout_secs,
                progress,
            )
        return name

    def list_snapshots(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> List[str]:
        """List the names of a volume's snapshots, the oldest first. Raises VolumeHaltedException."""
        return texts(self._of_volume("snapshotsList", volume_id, req_timeout_secs), "snapshotsList")

    def info_snapshot(self, volume_id: str, snapshot_id: str, req_timeout_secs: Optional[int] = None) -> SnapshotInfo:
        """Tell about a snapshot. Raises SnapshotNotFoundException, VolumeHaltedException."""
        result = self._of_volume("snapshotInfo", volume_id, req_timeout_secs, named(snapshot_id))
        return SnapshotInfo._of(wire.struct(result, "snapshotInfo"))

    def delete_snapshot(self, volume_id: str, snapshot_id: str, req_timeout_secs: Optional[int] = None) -> None:
        """Forget a snapshot.

        Raises ObjectNotFoundException, SnapshotNotFoundException, InvalidOperationException,
        ObjectStillHasChildrenException.
        """
        self._of_volume("snapshotDestroy", volume_id, req_timeout_secs, named(snapshot_id))

    def rollback_volume(self, volume_id: str, snapshot_id: str = "", req_timeout_secs: Optional[int] = None) -> None:
        """Let a volume hold again what a snapshot holds; later snapshots go.

        Raises ObjectNotFoundException, SnapshotNotFoundException, InvalidOperationException (a template),
        ObjectStillHasChildrenException.
        """
        self._of_volume("snapshotRestore", volume_id, req_timeout_secs, named(snapshot_id))

    @contextmanager
    def temporary_snapshot(
        self, volume_id: str, snapshot_id: str = "", metadata: Union[str, bytes] = ""
    ) -> Iterator[str]:
        """Keep a snapshot for the time of a ``with`` block, which gets its name."""
        name = self.create_snapshot(volume_id, snapshot_id, metadata)
        try:
            yield name
        finally:
            self.delete_snapshot(volume_id, name)

    def schedule_backend_sync(
        self,
        volume_id: str,
        req_timeout_secs: Optional[int] = None,
        *,
        wait: bool = False,
        wait_timeout_secs: float = waiting.WAIT_TIMEOUT_SECS,
        progress: Optional[waiting.Listener] = None,
    ) -> str:
        """Have all that was written until now stored on the backend; returns the TLog that ends it.

        With ``wait``, until it is there.
        """
        result = wire.struct(self._of_volume("scheduleBackendSync", volume_id, req_timeout_secs), "tlog_name")
        tlog = wire.text(result, "tlog_name")
        if wait:
            waiting.until(
                lambda: self.is_volume_synced_up_to_tlog(volume_id, tlog),
                "backend sync",
                volume_id,
                wait_timeout_secs,
                progress,
            )
        return tlog

    def is_volume_synced_up_to_tlog(
        self, volume_id: str, tlog_name: str, req_timeout_secs: Optional[int] = None
    ) -> bool:
        """Tell whether all up to the end of a TLog is on the backend."""
        arguments = {"tlog_name": wire.text_argument("tlog_name", tlog_name)}
        result = self._of_volume("isVolumeSyncedUpToTLog", volume_id, req_timeout_secs, arguments)
        return wire.flag(result, "isVolumeSyncedUpToTLog")

    def is_volume_synced_up_to_snapshot(
        self, volume_id: str, snapshot_name: str, req_timeout_secs: Optional[int] = None
    ) -> bool:
        """Tell whether all up to a snapshot is on the backend. Raises SnapshotNotFoundException."""
        arguments = {"snapshot_id": wire.text_argument("snapshot_name", snapshot_name)}
        result = self._of_volume("isVolumeSyncedUpToSnapshot", volume_id, req_timeout_secs, arguments)
        return wire.flag(result, "isVolumeSyncedUpToSnapshot")


def named(snapshot_id: str) -> Dict[str, Any]:
    """The snapshot as argument."""
    return {"snapshot_id": wire.text_argument("snapshot_id", snapshot_id)}
