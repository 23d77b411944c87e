"""The client of a cluster of volume drivers."""

import ssl
from typing import TYPE_CHECKING, Iterable, Iterator, Optional, Type, TypeVar

from . import errors
from .calls import Access, Caller
from .contacts import ClusterContact
from .node_calls import NodeCalls
from .setting_calls import SettingCalls
from .snapshot_calls import SnapshotCalls
from .volume_calls import VolumeCalls
from .volume_info import VolumeInfo

if TYPE_CHECKING:
    from types import TracebackType

    from .locked import LockedClient

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
        from .locked import LockedClient

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
        traceback: "Optional[TracebackType]" = None,
    ) -> None:
        """Closes it."""
        self.close()
