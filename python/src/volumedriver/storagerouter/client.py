"""The client of a cluster of volume drivers, and the one that scrubs a volume of it."""

import ssl
from types import TracebackType
from typing import Iterable, Iterator, List, Optional, Type, TypeVar

from . import configuration, errors, scrubber, wire
from .calls import Access, Caller
from .contacts import ClusterContact
from .enums import Severity
from .lock import Lock
from .node_calls import NodeCalls
from .setting_calls import SettingCalls
from .snapshot_calls import SnapshotCalls
from .volume_calls import VolumeCalls, texts
from .volume_info import VolumeInfo

C = TypeVar("C", bound="StorageRouterClient")


class StorageRouterClient(VolumeCalls, SnapshotCalls, SettingCalls, NodeCalls):
    """Asks the nodes of a cluster. Any of them may be asked: the request is sent on to where the volume is.

    Every call takes ``req_timeout_secs``: whole seconds until a node that does not answer counts as not reachable.
    The next contact is asked then, so a slow call may be carried out twice. Every call may raise
    ClusterNotReachableException, NodeNotReachableException, MaxRedirectsExceededException, and ``RuntimeError`` with
    the server's text for what has no exception of its own.

    Iterating over a client gives the ids of all volumes; ``volumes()`` tells about each. In a ``with`` block it is
    closed at the end, and calls are refused from then on.
    """

    def __init__(
        self,
        vrouter_cluster_id: str,
        cluster_contacts: Iterable[ClusterContact],
        client_timeout_secs: Optional[int] = None,
        *,
        token: Optional[str] = None,
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        """Connects to nobody.

        ``client_timeout_secs`` is for calls without ``req_timeout_secs``; ``None``: no limit. ``token`` is shown to
        nodes that want one; with ``tls`` connections are encrypted.
        """
        if not isinstance(vrouter_cluster_id, str):
            raise TypeError(f"vrouter_cluster_id must be a str, not {type(vrouter_cluster_id).__name__}")
        access = Access(token, tls)
        self._caller = Caller(vrouter_cluster_id, cluster_contacts, client_timeout_secs, access)

    def client_timeout_secs(self) -> Optional[int]:
        """Tell the time-out of calls that are given none."""
        return self._caller.timeout_secs

    def make_locked_client(
        self, nspace: str, update_interval_secs: int = 3, grace_period_secs: int = 7
    ) -> "LockedClient":
        """Make a client that scrubs a volume, and holds its lock while it is used in a ``with`` block.

        ``nspace`` is the id of the *volume*. The lock is renewed each ``update_interval_secs``; a holder that is not
        heard of for ``grace_period_secs`` more loses it.
        """
        return LockedClient._of(self._caller.another(), nspace, update_interval_secs, grace_period_secs)

    def volumes(self, node_id: Optional[str] = None) -> Iterator[VolumeInfo]:
        """Tell about each volume of the cluster, or of a node. One that is removed meanwhile is left out."""
        for volume_id in self.list_volumes(node_id):
            try:
                yield self.info_volume(volume_id)
            except errors.ObjectNotFoundException:
                continue

    def __iter__(self) -> Iterator[str]:
        """The ids of all volumes."""
        return iter(self.list_volumes())

    def close(self) -> None:
        """Refuse calls from now on. No connection is kept between calls, so there is nothing to release."""
        self._caller.closed = True

    def __enter__(self: C) -> C:
        """Itself."""
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]] = None,
        exc_value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        """Closes it."""
        self.close()


class LockedClient(StorageRouterClient):
    """A client that holds the lock of one volume in a ``with`` block. ``make_locked_client`` makes them."""

    _volume_id: str
    _update_interval_secs: int
    _grace_period_secs: int
    _lock: Optional[Lock]

    def __init__(self) -> None:
        """Refused: use ``StorageRouterClient.make_locked_client``."""
        raise RuntimeError("use StorageRouterClient.make_locked_client")

    @classmethod
    def _of(cls, caller: Caller, volume_id: str, update_interval_secs: int, grace_period_secs: int) -> "LockedClient":
        client = cls.__new__(cls)
        client._caller = caller
        client._volume_id = wire.text_argument("nspace", volume_id)
        for name, value in (
            ("update_interval_secs", update_interval_secs),
            ("grace_period_secs", grace_period_secs),
        ):
            wire.number_argument(name, value)
            if value == 0:
                raise ValueError(f"{name} must be at least 1")
        client._update_interval_secs = update_interval_secs
        client._grace_period_secs = grace_period_secs
        client._lock = None
        return client

    def __enter__(self) -> "LockedClient":
        """Takes the lock. A ``RuntimeError`` names who holds it, when that one goes on."""
        if self._lock is not None:
            raise RuntimeError(f"the lock of {self._volume_id} is held already by this client")
        namespace = self.info_volume(self._volume_id).namespace or self._volume_id
        running = wire.struct(self._call("persistConfigurationToString", {}, None), "configuration")
        url = wire.text(running, "configuration_url")
        if not url.startswith("etcd://"):
            raise RuntimeError(f"{self._volume_id}: its node names no configuration store, where locks are kept")
        store, path = configuration.place(url)
        vpool = "/".join(path.split("/")[:4])
        lock = Lock(store, f"{vpool}/locks/{namespace}", self._update_interval_secs, self._grace_period_secs)
        lock.take()
        self._lock = lock
        return self

    def __exit__(
        self,
        exc_type: Optional[Type[BaseException]] = None,
        exc_value: Optional[BaseException] = None,
        traceback: Optional[TracebackType] = None,
    ) -> None:
        """Gives the lock back."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _held(self) -> Lock:
        if self._lock is None:
            raise RuntimeError(f"the lock of {self._volume_id} is not held: use this client in a `with` block")
        if self._lock.lost.is_set():
            raise RuntimeError(f"the lock of {self._volume_id} was lost")
        return self._lock

    def get_scrubbing_workunits(
        self,
        start_snapshot_id: Optional[str] = None,
        end_snapshot_id: Optional[str] = None,
        req_timeout_secs: Optional[int] = None,
    ) -> List[str]:
        """List what can be scrubbed, from after one snapshot to another one; opaque, one for each snapshot.

        Raises SnapshotNotFoundException, InvalidOperationException (a template).
        """
        self._held()
        arguments = {}
        if start_snapshot_id is not None:
            arguments["start_snapshot"] = wire.text_argument("start_snapshot_id", start_snapshot_id)
        if end_snapshot_id is not None:
            arguments["end_snapshot"] = wire.text_argument("end_snapshot_id", end_snapshot_id)
        result = self._of_volume("getScrubbingWork", self._volume_id, req_timeout_secs, arguments)
        return texts(result, "getScrubbingWork")

    def scrub(
        self,
        work_unit: str,
        scratch_dir: str,
        region_size_exponent: int = 25,
        fill_ratio: float = 0.9,
        verbose_scrubbing: bool = True,
        scrubber_binary: str = "ovs_scrubber",
        severity: Severity = Severity.info,
        log_sinks: Iterable[str] = (),
        backend_config: Optional[str] = None,
    ) -> str:
        """Run the scrubber on a work unit; returns its result, opaque.

        It is killed when the lock is lost. A ``RuntimeError`` carries what it wrote to standard error.
        """
        lock = self._held()
        command = [
            scrubber_binary,
            "--scrub-work",
            wire.text_argument("work_unit", work_unit),
            "--scratch-dir",
            wire.text_argument("scratch_dir", scratch_dir),
            "--region-size-exponent",
            wire.number_argument("region_size_exponent", region_size_exponent),
            "--fill-ratio",
            wire.factor_argument("fill_ratio", fill_ratio),
            "--verbose",
            "1" if verbose_scrubbing else "0",
            "--loglevel",
            wire.enum_argument("severity", Severity, severity),
        ]
        for sink in log_sinks:
            command += ["--logsink", wire.text_argument("log_sinks", sink)]
        if backend_config is not None:
            command += ["--backend-config", wire.text_argument("backend_config", backend_config)]
        return scrubber.run(command, lock)

    def apply_scrubbing_result(self, scrubbing_work_result: str, req_timeout_secs: Optional[int] = None) -> None:
        """Hand over what the scrubber returned. It is queued, and applied later."""
        self._held()
        key = "scrubbing_work_result"
        arguments = {key: wire.text_argument(key, scrubbing_work_result)}
        self._of_volume("applyScrubbingResult", self._volume_id, req_timeout_secs, arguments)
