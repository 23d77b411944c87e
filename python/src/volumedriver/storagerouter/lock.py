"""A lock in the configuration store: a key on a lease that its holder renews."""

import getpass
import json
import os
import socket
import threading
import time
from typing import Optional

from .logger import warn
from .store import Compare, Store, StoreError, Write

#: Seconds between two tries to take a lock that another one holds.
RETRY_SECS = 0.2


class Lock:
    """A key that exists while it is held. Whoever does not renew its lease in time has lost it."""

    def __init__(self, store: Store, key: str, update_interval_secs: int, grace_period_secs: int) -> None:
        """Takes nothing yet. The lease lasts interval and grace together."""
        self._store = store
        self._key = key
        self._interval = update_interval_secs
        self._ttl = update_interval_secs + grace_period_secs
        self._lease = 0
        self._deadline = 0.0
        self._stop = threading.Event()
        self._thread: Optional[threading.Thread] = None
        #: Set when the lock is lost while it is held.
        self.lost = threading.Event()

    def take(self) -> None:
        """Takes it, waiting for twice the time after which a holder that died loses it. Then a ``RuntimeError``."""
        deadline = time.monotonic() + 2 * self._ttl
        begin = time.monotonic()
        self._lease = self._store.grant(self._ttl)
        value = json.dumps({"holder": holder(), "lease": f"{self._lease:x}"}).encode()
        try:
            while True:
                if self._store.transact([Compare(self._key, 0)], [Write(self._key, value, self._lease)]):
                    break
                if time.monotonic() >= deadline:
                    raise RuntimeError(f"{self._key} is locked by {self._holder()}")
                time.sleep(RETRY_SECS)
                if self._store.keep_alive(self._lease) <= 0:
                    self._lease = self._store.grant(self._ttl)
                    value = json.dumps({"holder": holder(), "lease": f"{self._lease:x}"}).encode()
                begin = time.monotonic()
        except BaseException:
            self._end_lease()
            raise
        self._deadline = begin + self._ttl
        self._stop.clear()
        self.lost.clear()
        self._thread = threading.Thread(target=self._renew, name="volumedriver-lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Gives it back. One that was lost is gone already."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._end_lease()

    def _renew(self) -> None:
        """Renews the lease until the release, or until it is too late."""
        while not self._stop.wait(max(0.0, min(self._interval, self._deadline - time.monotonic()))):
            begin = time.monotonic()
            if begin >= self._deadline:
                self.lost.set()
                return
            try:
                left = self._store.keep_alive(self._lease)
            except (StoreError, KeyError, TypeError, ValueError) as error:
                warn("Lock", "%s could not be renewed: %s", self._key, error)
                continue
            if left <= 0:
                self.lost.set()
                return
            self._deadline = begin + min(left, self._ttl)

    def _end_lease(self) -> None:
        """Ends the lease, and the key with it. If that fails it ends by itself."""
        lease, self._lease = self._lease, 0
        if not lease:
            return
        try:
            self._store.revoke(lease)
        except StoreError as error:
            warn("Lock", "the lease of %s could not be ended: %s", self._key, error)

    def _holder(self) -> str:
        pair = self._store.get(self._key)
        try:
            return str(json.loads(pair.value)["holder"]) if pair is not None else "another one"
        except (ValueError, KeyError, TypeError):
            return "another one"


def holder() -> str:
    """Who takes locks here: user, host, process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} process {os.getpid()}"
