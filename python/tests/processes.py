"""Real processes: nodes (``ovs up``, the program is in ``OVS_BINARY``), further drivers, Debian's etcd."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Optional

from volumedriver.storagerouter.configuration import place
from volumedriver.storagerouter.storagerouterclient import (
    ArakoonNodeConfig,
    ClusterContact,
    LocalStorageRouterClient,
    StorageRouterClient,
)
from volumedriver.storagerouter.store import Store, Write

#: The program under test; empty: tests with nodes are left out.
OVS = os.environ.get("OVS_BINARY", "")

#: Seconds that a start, a stop or a call may take.
PATIENCE = 60

#: Documents of nodes that shall start quickly: little to allocate.
SMALL: Dict[str, Dict[str, Any]] = {
    "scocache": {"segment_size": "1MiB", "reserve_size": "16MiB"},
    "volume_manager": {"run_size": "1MiB", "data_threads": 1},
}


class Process:
    """A child process with its log, and a directory that goes when it does."""

    def __init__(self) -> None:
        # Short, for unix sockets.
        self.directory = Path(tempfile.mkdtemp(prefix="ovs-py-", dir="/tmp"))
        self._child: Optional[subprocess.Popen[str]] = None

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def start(self, command: List[str], until: Optional[str] = None) -> None:
        """Starts it; with ``until`` waits until it prints that line."""
        environment = {k: v for k, v in os.environ.items() if k not in ("OVS_DATA_DIR", "OVS_ENDPOINT")}
        with open(self.directory / "log", "a") as log:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if until else log,
                stderr=log,
                text=True,
                env=environment,
            )
        if until is None:
            return
        stdout = self._child.stdout
        assert stdout is not None
        # What never comes ends the process, and with it the lines.
        limit = threading.Timer(PATIENCE, self._child.kill)
        limit.start()
        try:
            if not any(line.rstrip() == until for line in iter(stdout.readline, "")):
                raise AssertionError(f"{command} did not get ready:\n{self.log[-4000:]}")
        finally:
            limit.cancel()

    def kill(self) -> None:
        """Ends it as a crash does."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            if self._child.stdout is not None:
                self._child.stdout.close()
            self._child = None

    def stop(self) -> None:
        """Ends it as an operator does."""
        assert self._child is not None
        self._child.send_signal(signal.SIGTERM)
        code = self._child.wait(PATIENCE)
        assert code == 0, f"exit code {code}:\n{self.log[-4000:]}"
        self.kill()

    def pause(self) -> None:
        """Lets it stand still: it takes connections and does not answer."""
        assert self._child is not None
        self._child.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._child is not None
        self._child.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Ends it, and removes its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class Driver(Process):
    """A volume driver. Its data directory is ``data`` in its directory."""

    def __init__(self) -> None:
        super().__init__()
        self.data = self.directory / "data"

    @property
    def endpoints(self) -> Dict[str, Any]:
        described: Dict[str, Any] = json.loads((self.data / "endpoints.json").read_text())
        return described

    @property
    def vrouter_id(self) -> str:
        return str(self.endpoints["vrouter_id"])

    @property
    def cluster_id(self) -> str:
        return str(self.endpoints["vrouter_cluster_id"])

    @property
    def config_url(self) -> str:
        return str(self.endpoints["config"])

    @property
    def contact(self) -> ClusterContact:
        return self.local().contact_of_node()

    def local(self) -> "Local":
        """A client that found it by its data directory."""
        return Local(str(self.data), PATIENCE)

    def client(self, *more: "Driver") -> StorageRouterClient:
        """A client whose first contact it is."""
        contacts = [driver.contact for driver in (self, *more)]
        return StorageRouterClient(self.cluster_id, contacts, PATIENCE)

    def store(self) -> Store:
        return place(self.config_url).store

    def members(self) -> List[ArakoonNodeConfig]:
        """The configuration store, as clients of registries want it."""
        return [ArakoonNodeConfig("one", host, port) for host, port in self.store()._endpoints]

    def configure(self, section: str, document: Optional[Dict[str, Any]]) -> None:
        """Stores a document of it, or removes it. Nothing is applied by that."""
        store, path = place(self.config_url)
        value = None if document is None else json.dumps(document).encode()
        assert store.transact([], [Write(f"{path}/{section}", value)])


class Local(LocalStorageRouterClient):
    """A client that tells where its node is."""

    def contact_of_node(self) -> ClusterContact:
        return ClusterContact(self._node.host, self._node.port)


class Node(Driver):
    """A node with its configuration store."""

    def up(self, *arguments: str, more: Optional[Dict[str, Dict[str, Any]]] = None) -> "Node":
        """Starts it; the first time with small documents and ``more``, by section."""
        if not self.data.exists():
            (self.data / "config").mkdir(parents=True)
            for section, document in {**SMALL, **(more or {})}.items():
                (self.data / "config" / f"{section}.json").write_text(json.dumps(document))
        self.start([OVS, "up", "--ephemeral", "--data-dir", str(self.data), *arguments], "ready")
        return self


class SecondDriver(Driver):
    """A further driver of a node's vPool."""

    def run(self, node: Node, vrouter_id: str) -> "SecondDriver":
        store, path = place(node.config_url)
        parts = path.split("/")
        parts[5] = vrouter_id
        folder = "/".join(parts)
        writes = [Write(f"{folder}/{section}", json.dumps(doc).encode()) for section, doc in SMALL.items()]
        assert store.transact([], writes)
        url = node.config_url.replace(path, folder)
        self.start([OVS, "volumedriver", "run", "--ephemeral", "--config", url, "--data-dir", str(self.data)], "ready")
        return self


class Etcd(Process):
    """Debian's etcd, alone in its cluster."""

    def up(self) -> "Etcd":
        self.port, peer = free_port(), free_port()
        url, peer_url = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer}"
        self.start(
            [
                "etcd",
                "--name",
                "one",
                "--data-dir",
                str(self.directory / "data"),
                "--listen-client-urls",
                url,
                "--advertise-client-urls",
                url,
                "--listen-peer-urls",
                peer_url,
                "--initial-advertise-peer-urls",
                peer_url,
                "--initial-cluster",
                f"one={peer_url}",
            ]
        )
        until(lambda: healthy(url), "etcd serves")
        return self

    @staticmethod
    def is_there() -> bool:
        return shutil.which("etcd") is not None


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:
            return b"true" in answer.read()
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def until(ready: Any, what: str, patience: float = PATIENCE) -> None:
    """Asks another process until it says so."""
    deadline = time.monotonic() + patience
    while not ready():
        assert time.monotonic() < deadline, f"not after {patience} s: {what}"
        # sleep: another process has no event for this one
        time.sleep(0.05)
