"""Paths of volumes. There is one folder, and in it each volume under its id."""

import ssl
from typing import Iterable, List, Optional

from . import wire
from .contacts import ArakoonNodeConfig
from .enums import DirectoryEntryType
from .errors import ObjectNotFoundException
from .object_registry import ObjectRegistration, ObjectRegistryClient

ROOT = "/"


class DirectoryEntry:
    """What a path leads to."""

    def __init__(self, type: DirectoryEntryType, object_id: str, permissions: int) -> None:  # noqa: A002
        """Keeps all."""
        self._type = type
        self._object_id = object_id
        self._permissions = permissions

    def type(self) -> DirectoryEntryType:
        """Folder or volume."""
        return self._type

    def object_id(self) -> str:
        """Id of the volume; the folder's is ``/``."""
        return self._object_id

    def inode(self) -> int:
        """Always 0: there are no inodes."""
        return 0

    def group_id(self) -> int:
        """Always 0: volumes belong to no group."""
        return 0

    def user_id(self) -> int:
        """Always 0: volumes belong to no user."""
        return 0

    def permissions(self) -> int:
        """As of a file that only its owner may use."""
        return self._permissions


class FileSystemMetaDataClient:
    """Paths of the volumes of a cluster, from its registry."""

    def __init__(
        self,
        cluster_id: str,
        arakoon_cluster_id: str,
        arakoon_node_configs: Iterable[ArakoonNodeConfig],
        *,
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        """Connects to nobody. Arguments as of ``ObjectRegistryClient``."""
        self._registry = ObjectRegistryClient(cluster_id, arakoon_cluster_id, arakoon_node_configs, tls=tls)

    def list_path(self, path: str) -> "List[str]":
        """List the names in a folder."""
        if wire.text_argument("path", path).strip("/"):
            self.find_path(path)
            raise RuntimeError(f"{path} is no folder")
        return self._registry.list()

    def find_path(self, path: str) -> DirectoryEntry:
        """Tell what is at a path. Raises ObjectNotFoundException."""
        return self.find_id(wire.text_argument("path", path).strip("/") or ROOT)

    def find_id(self, object_id: str) -> DirectoryEntry:
        """Tell about an object. Raises ObjectNotFoundException."""
        if object_id == ROOT:
            return DirectoryEntry(DirectoryEntryType.DIRECTORY, ROOT, 0o700)
        found = self._must_find(object_id)
        return DirectoryEntry(DirectoryEntryType.VOLUME, found.object_id(), 0o600)

    def lookup(self, object_id: str) -> str:
        """Tell the path of an object. Raises ObjectNotFoundException."""
        return ROOT if object_id == ROOT else ROOT + self._must_find(object_id).object_id()

    def list(self, object_id: str) -> "List[str]":
        """List the names in a folder, by its id ``/``."""
        return self.list_path(self.lookup(object_id))

    def _mknod(
        self,
        parent_id: str,
        object_id: str,
        name: str,
        type: DirectoryEntryType,  # noqa: A002
        permissions: int,
        user_id: int,
        group_id: int,
    ) -> None:
        """Refused: a volume is made with ``create_volume``, and there is nothing else."""
        raise RuntimeError("_mknod: make volumes with StorageRouterClient.create_volume")

    def _unlink(self, parent_id: str, name: str) -> None:
        """Refused: a volume is removed with ``unlink``."""
        raise RuntimeError("_unlink: remove volumes with StorageRouterClient.unlink")

    def _rename(self, from_parent: str, from_: str, to_parent: str, to: str) -> None:
        """Refused: the id of a volume is its name, and stays."""
        raise RuntimeError("_rename: the id of a volume is its name, and stays")

    def _must_find(self, object_id: str) -> ObjectRegistration:
        try:
            found = self._registry.find(object_id)
        except RuntimeError as error:
            if "is no id" not in str(error):
                raise
            found = None
        if found is None:
            raise ObjectNotFoundException(object_id)
        return found
