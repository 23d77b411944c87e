"""Scrubbing, by one client of a volume at a time."""

import subprocess
from typing import TYPE_CHECKING, Any, Iterable, List, Optional, Tuple, Type

from . import configuration, wire
from .calls import Caller
from .client import StorageRouterClient
from .enums import Severity
from .lock import Lock
from .volume_calls import texts

if TYPE_CHECKING:
    from types import TracebackType

#: Seconds after which a running scrubber is looked after.
LOOK_SECS = 0.2


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
        traceback: "Optional[TracebackType]" = None,
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
        return run(command, lock)

    def apply_scrubbing_result(self, scrubbing_work_result: str, req_timeout_secs: Optional[int] = None) -> None:
        """Hand over what the scrubber returned. It is queued, and applied later."""
        self._held()
        key = "scrubbing_work_result"
        arguments = {key: wire.text_argument(key, scrubbing_work_result)}
        self._of_volume("applyScrubbingResult", self._volume_id, req_timeout_secs, arguments)


def run(command: List[str], lock: Lock) -> str:
    """Runs a program until it ends or the lock is lost; returns its standard output."""
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise RuntimeError(f"{command[0]} cannot be started: {error.strerror}") from None
    with child:
        try:
            while True:
                try:
                    out, err = child.communicate(timeout=LOOK_SECS)
                    break
                except subprocess.TimeoutExpired:
                    if lock.lost.is_set():
                        raise RuntimeError(f"{command[0]} was killed: the lock was lost") from None
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        told = err.decode("utf-8", "replace").strip()[-4096:]
        raise RuntimeError(f"{command[0]} failed with exit code {child.returncode}: {told}")
    return out.decode("utf-8", "surrogateescape")


class Scrubber:
    """Scrubbing in this process."""

    @staticmethod
    def scrub(
        work_unit: str,
        scratch_dir: str,
        region_size_exponent: int = 25,
        fill_ratio: float = 0.9,
        apply_immediately: bool = False,
        verbose_scrubbing: bool = True,
        backend_config: Optional[str] = None,
    ) -> Tuple[str, Any]:
        """Refused: scrubbing is work of a program of its own. Use ``LockedClient.scrub``."""
        raise RuntimeError("Scrubber.scrub: this package does not scrub by itself; use LockedClient.scrub")
