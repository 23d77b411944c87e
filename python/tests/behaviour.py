"""Base of the tests of the original's behaviours: two nodes that all of them share, and the list of what comes later."""

import atexit
import functools
import itertools
import unittest
from typing import Any, Callable, ClassVar, List, Optional, Tuple

from volumedriver.storagerouter.storagerouterclient import InvalidOperationException, StorageRouterClient

from .nbd import Nbd
from .not_yet import LATER
from .processes import OVS, Driver, Node, SecondDriver

MIB = 1 << 20

#: Names that no other test uses.
NUMBERS = itertools.count(1)


@functools.cache
def cluster() -> Tuple[Node, SecondDriver]:
    """A node and a further driver of its vPool, for all tests of this process."""
    node, second = Node(), SecondDriver()
    atexit.register(node.remove)
    atexit.register(second.remove)
    node.up()
    return node, second.run(node, "second")


def tried(name: str, test: Callable[..., None]) -> Callable[..., None]:
    """A test of a behaviour that comes later is skipped as long as the server says so."""

    @functools.wraps(test)
    def run(self: unittest.TestCase) -> None:
        feature = LATER.get(name)
        if feature is None:
            test(self)
            return
        try:
            test(self)
        except (InvalidOperationException, NotImplementedError) as error:
            if isinstance(error, InvalidOperationException) and "comes with" not in str(error):
                raise
            self.skipTest(f"comes with {feature}: {error}")
        self.fail(f"{name} works now: take it off the list in not_yet.py")

    return run


@unittest.skipUnless(OVS, "OVS_BINARY names no program")
class Behaviour(unittest.TestCase):
    """A test with the shared nodes. Its methods are named after the behaviours."""

    node: ClassVar[Node]
    second: ClassVar[SecondDriver]
    client: StorageRouterClient

    def __init_subclass__(cls) -> None:
        for attribute, test in list(vars(cls).items()):
            if attribute.startswith("test_"):
                setattr(cls, attribute, tried(attribute[len("test_") :], test))

    @classmethod
    def setUpClass(cls) -> None:
        cls.node, cls.second = cluster()

    def setUp(self) -> None:
        self.client = self.node.client()

    def name(self, what: str = "v") -> str:
        return f"{what}{next(NUMBERS)}"

    def volume(self, size: str = "16MiB", at: Optional[Driver] = None) -> str:
        """A volume that is removed after the test."""
        volume_id = self.client.create_volume(f"/{self.name()}", None, size, "" if at is None else at.vrouter_id)
        self.addCleanup(self.removed, volume_id)
        return volume_id

    def removed(self, volume_id: str) -> None:
        if volume_id in self.client.list_volumes():
            self.client.unlink(f"/{volume_id}")

    def opened(self, volume_id: str, at: Optional[Driver] = None) -> Nbd:
        return Nbd((at or self.node).endpoints["nbd"], volume_id)

    def write(self, volume_id: str, pattern: bytes, size: int = MIB, at: Optional[Driver] = None) -> None:
        with self.opened(volume_id, at) as client:
            client.write(0, pattern * (size // len(pattern)))
            client.flush()

    def read(self, volume_id: str, size: int = MIB, at: Optional[Driver] = None) -> bytes:
        with self.opened(volume_id, at) as client:
            return client.read(0, size)

    def snapshots(self, volume_id: str, names: List[str]) -> None:
        """Takes snapshots, each on the backend before the next, with other data in each."""
        for number, name in enumerate(names, 1):
            self.write(volume_id, bytes([number]))
            self.client.create_snapshot(volume_id, name, wait=True)

    def raised(self, kind: Any, call: Callable[..., Any], *arguments: Any) -> str:
        """What was said by an expected exception. What comes later is none of them."""
        try:
            call(*arguments)
        except kind as error:
            if isinstance(error, InvalidOperationException) and "comes with" in str(error):
                raise
            return str(error)
        raise AssertionError(f"{call.__name__} raised nothing, not {kind}")
