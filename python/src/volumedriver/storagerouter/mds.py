"""Metadata servers."""

from typing import List, Optional

from .enums import Role
from .metadata_backend import MDSNodeConfig
from .tags import OwnerTag


class MDSTableCounters:
    """What a metadata server did for a namespace. Only servers make them."""

    def __init__(self) -> None:
        """Refused: the binding of the original has no constructor either."""
        raise RuntimeError("This class cannot be instantiated from Python")

    _total_tlogs_read: int
    _incremental_updates: int
    _full_rebuilds: int

    @property
    def total_tlogs_read(self) -> int:
        """TLogs that were read."""
        return self._total_tlogs_read

    @property
    def incremental_updates(self) -> int:
        """Times that it caught up."""
        return self._incremental_updates

    @property
    def full_rebuilds(self) -> int:
        """Times that it began anew."""
        return self._full_rebuilds


class MDSClient:
    """Asks a metadata server.

    There is no metadata server yet, so every call raises ``NotImplementedError``, which is a ``RuntimeError``. Names
    and arguments are those that callers know.
    """

    def __init__(self, mds_node_config: MDSNodeConfig, timeout_secs: int = 20) -> None:
        """Connects to nobody. A time-out of 0 is a ``RuntimeError``."""
        if not isinstance(mds_node_config, MDSNodeConfig):
            raise TypeError(f"mds_node_config must be an MDSNodeConfig, not {type(mds_node_config).__name__}")
        if isinstance(timeout_secs, bool) or not isinstance(timeout_secs, int):
            raise TypeError(f"timeout_secs must be an int, not {type(timeout_secs).__name__}")
        if timeout_secs < 1:
            raise RuntimeError("timeout_secs must be at least 1")
        self._node = mds_node_config
        self._timeout_secs = timeout_secs

    def _absent(self, method: str) -> NotImplementedError:
        address = f"{self._node.address()}:{self._node.port()}"
        return NotImplementedError(f"MDSClient.{method}: ovs has no metadata server yet, so none is at {address}")

    def create_namespace(self, nspace: str, /) -> None:
        """Make a namespace. One that is there is fine."""
        raise self._absent("create_namespace")

    def list_namespaces(self) -> List[str]:
        """List namespaces."""
        raise self._absent("list_namespaces")

    def remove_namespace(self, nspace: str, /) -> None:
        """Remove a namespace."""
        raise self._absent("remove_namespace")

    def get_role(self, nspace: str) -> Role:
        """Tell what the server is to a namespace."""
        raise self._absent("get_role")

    def set_role(self, nspace: str, role: Role, owner_tag: OwnerTag = OwnerTag(0)) -> None:  # noqa: B008
        """Say what the server is to a namespace."""
        raise self._absent("set_role")

    def get_cork_id(self, nspace: str) -> Optional[str]:
        """Tell up to which TLog a namespace is known."""
        raise self._absent("get_cork_id")

    def get_scrub_id(self, nspace: str) -> Optional[str]:
        """Tell the last scrub of a namespace."""
        raise self._absent("get_scrub_id")

    def catch_up(self, nspace: str, dry_run: bool) -> int:
        """Read TLogs that a namespace lacks; returns their number."""
        raise self._absent("catch_up")

    def get_table_counters(self, nspace: str, reset: bool) -> MDSTableCounters:
        """Tell what the server did for a namespace."""
        raise self._absent("get_table_counters")

    def get_owner_tag(self, nspace: str) -> OwnerTag:
        """Tell whose a namespace is."""
        raise self._absent("get_owner_tag")

    def _get_page(self, nspace: str, page_address: int) -> object:
        """Read a page of the map. No stable interface."""
        raise self._absent("_get_page")
