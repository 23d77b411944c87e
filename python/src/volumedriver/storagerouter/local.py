"""The client of one node, which also changes its configuration and its log."""

import json
import ssl
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from . import configuration, wire
from .client import StorageRouterClient
from .contacts import ClusterContact
from .enums import Severity
from .errors import ConfigurationUpdateException, problems
from .logger import warn
from .node_info import ClusterCacheHandleInfo
from .store import Store
from .tags import ClusterCacheHandle, wire_text
from .volume_calls import texts


class AppliedUpdates(List[Dict[str, str]]):
    """What an update changed: dicts with ``param_name``, ``old_value`` and ``new_value``.

    ``pending_restart`` has the same for what takes effect at the next start. ``feedback_id`` and ``revision`` name
    the feedback that the node left in the store.
    """

    pending_restart: List[Dict[str, str]]
    feedback_id: str
    revision: int

    @classmethod
    def _of(cls, result: Mapping[str, Any]) -> "AppliedUpdates":
        applied = cls(updates(result, "updates"))
        applied.pending_restart = updates(result, "no_updates")
        applied.feedback_id = wire.text(result, "feedback_id")
        applied.revision = wire.numbered(result, "revision")
        return applied


def updates(result: Mapping[str, Any], key: str) -> List[Dict[str, str]]:
    """A list of changed parameters."""
    changes = [wire.struct(change, key) for change in wire.array(result.get(key, []), key)]
    return [
        {
            "param_name": wire.text(change, "parameter_name") or wire.text(change, "param_name"),
            "old_value": wire.text(change, "old_value"),
            "new_value": wire.text(change, "new_value"),
        }
        for change in changes
    ]


class LocalStorageRouterClient(StorageRouterClient):
    """Asks the node that runs with a certain configuration."""

    def __init__(
        self,
        config_location: str,
        client_timeout: Optional[int] = None,
        *,
        token: Optional[str] = None,
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        """Finds the node, without asking it.

        ``config_location`` is the URL of its documents (``etcd://HOST:PORT/ovs/vpools/GUID/hosts/ID/config``) or its
        data directory (``file:DIR`` or a plain path). ``client_timeout`` is for calls without ``req_timeout_secs``.
        A ``RuntimeError`` says why no node was found.
        """
        node = configuration.find(config_location)
        if tls is None and node.is_encrypted:
            tls = ssl.create_default_context()
        contact = ClusterContact(node.host, node.port)
        shown = node.token if token is None else token
        super().__init__(node.vrouter_cluster_id, [contact], client_timeout, token=shown, tls=tls)
        self._node = node

    @property
    def vrouter_id(self) -> str:
        """Id of the node."""
        return self._node.vrouter_id

    @property
    def configuration_url(self) -> str:
        """URL of the node's documents."""
        return self._node.config_url

    def update_configuration(self, config: str, req_timeout_secs: Optional[int] = None) -> AppliedUpdates:
        """Have the node take a configuration; returns what changed, as ``{param_name, old_value, new_value}``.

        ``config`` is a location that the *node* reads: the URL of its own documents (``configuration_url``), or
        another URL, a directory of documents or a file, which are imported first. ConfigurationUpdateException:
        rejected, nothing changed and nothing was stored; its ``problems`` say why. Another ``RuntimeError``: it
        cannot be read.
        """
        arguments = {"configuration_path": wire.text_argument("config", config)}
        try:
            result = wire.struct(self._call("updateConfiguration", arguments, req_timeout_secs), "updateConfiguration")
            if wire.maybe(result, "problems"):
                raise ConfigurationUpdateException(problems(result["problems"], ""))
        except ConfigurationUpdateException as rejected:
            for problem in rejected.problems:
                warn("LocalStorageRouterClient", "Error updating %s", problem)
            raise
        return AppliedUpdates._of(result)

    def get_running_configuration(self, report_defaults: bool = False, req_timeout_secs: Optional[int] = None) -> str:
        """Tell what the node runs with, as JSON. With ``report_defaults``, with values that are the defaults."""
        arguments = {"show_defaults": wire.flag_argument(report_defaults)}
        result = self._call("persistConfigurationToString", arguments, req_timeout_secs)
        return wire.text(wire.struct(result, "configuration"), "configuration")

    def running_configuration(self, report_defaults: bool = False) -> Dict[str, Any]:
        """Tell what the node runs with, by section."""
        read: Dict[str, Any] = json.loads(self.get_running_configuration(report_defaults))
        return read

    def feedback(self, feedback_id: str) -> Optional[Dict[str, Any]]:
        """Tell what the node answered to an update, from the store; ``None``: nothing that is still kept.

        Its members (``outcome``, ``applied``, ``pending_restart``, ``rejected`` and more) are those of the store.
        """
        if not wire.text_argument("feedback_id", feedback_id) or "/" in feedback_id:
            raise ValueError(f"{feedback_id!r} is no id of a feedback")
        store, folder = self._feedback_folder()
        pair = store.get(folder + feedback_id)
        return None if pair is None else configuration.document(pair.value, pair.key)

    def watch_feedback(self, timeout_secs: int = 60) -> Iterator[Dict[str, Any]]:
        """Tell what the node answers to updates, whoever asks for them, from now on.

        A ``TimeoutError`` when there is none for ``timeout_secs``.
        """
        store, folder = self._feedback_folder(timeout_secs)
        for pair in store.watch(folder):
            yield configuration.document(pair.value, pair.key)

    def _feedback_folder(self, timeout_secs: int = 60) -> Tuple[Store, str]:
        if not self._node.config_url.startswith("etcd://"):
            raise RuntimeError(f"{self._node.vrouter_id}: where its configuration is stored is not known")
        store, path = configuration.place(self._node.config_url, timeout_secs)
        return store, path[: -len("config")] + "feedback/"

    def destroy_filesystem(self, req_timeout_secs: Optional[int] = None) -> None:
        """Refused: nothing removes all volumes at once. Remove each with ``unlink``, then the data directory."""
        raise RuntimeError(
            "destroy_filesystem: nothing here removes all volumes at once; unlink each of list_volumes_by_path(), "
            "stop the node, then remove its data directory"
        )

    def get_general_logging_level(self, req_timeout_secs: Optional[int] = None) -> Severity:
        """Tell from which severity on the node logs."""
        return wire.severity(self._call("getGeneralLoggingLevel", {}, req_timeout_secs))

    def set_general_logging_level(self, severity: Severity, req_timeout_secs: Optional[int] = None) -> None:
        """Say from which severity on the node logs."""
        arguments = {"log_filter_level": wire.enum_argument("severity", Severity, severity)}
        self._call("setGeneralLoggingLevel", arguments, req_timeout_secs)

    def list_logging_filters(self, req_timeout_secs: Optional[int] = None) -> List[Tuple[str, Severity]]:
        """List which parts of the node log from another severity on."""
        filters = wire.array(self._call("showLoggingFilters", {}, req_timeout_secs), "showLoggingFilters")
        structs = [wire.struct(item, "a filter") for item in filters]
        return [(wire.text(f, "log_filter_name"), wire.severity(f.get("log_filter_level"))) for f in structs]

    def add_logging_filter(self, filter_match: str, severity: Severity, req_timeout_secs: Optional[int] = None) -> None:
        """Let a part of the node log from another severity on."""
        arguments = {
            "log_filter_name": wire.text_argument("filter_match", filter_match),
            "log_filter_level": wire.enum_argument("severity", Severity, severity),
        }
        self._call("addLoggingFilter", arguments, req_timeout_secs)

    def remove_logging_filter(self, filter_match: str, req_timeout_secs: Optional[int] = None) -> None:
        """Let a part of the node log as all others. One without a filter is fine."""
        arguments = {"log_filter_name": wire.text_argument("filter_match", filter_match)}
        self._call("removeLoggingFilter", arguments, req_timeout_secs)

    def remove_logging_filters(self, req_timeout_secs: Optional[int] = None) -> None:
        """Let all parts of the node log from one severity on."""
        self._call("removeAllLoggingFilters", {}, req_timeout_secs)

    def malloc_info(self, req_timeout_secs: Optional[int] = None) -> str:
        """Tell how the node uses memory."""
        return str(self._call("mallocInfo", {}, req_timeout_secs))

    def list_cluster_cache_handles(self, req_timeout_secs: Optional[int] = None) -> List[ClusterCacheHandle]:
        """List the parts of the read cache."""
        handles = texts(self._call("listClusterCacheHandles", {}, req_timeout_secs), "listClusterCacheHandles")
        return [ClusterCacheHandle(wire.number(handle, "a handle")) for handle in handles]

    def get_cluster_cache_handle_info(
        self, handle: ClusterCacheHandle, req_timeout_secs: Optional[int] = None
    ) -> ClusterCacheHandleInfo:
        """Tell about a part of the read cache."""
        result = self._call("getClusterCacheHandleInfo", handle_argument(handle), req_timeout_secs)
        return ClusterCacheHandleInfo._of(wire.struct(result, "getClusterCacheHandleInfo"))

    def remove_cluster_cache_handle(self, handle: ClusterCacheHandle, req_timeout_secs: Optional[int] = None) -> None:
        """Empty a part of the read cache, and forget it."""
        self._call("removeClusterCacheHandle", handle_argument(handle), req_timeout_secs)

    def _remove_namespace_from_sco_cache(self, nspace: str, req_timeout_secs: Optional[int] = None) -> None:
        """Drop what the SCO cache has of a namespace whose volume does not run."""
        arguments = {"nspace": wire.text_argument("nspace", nspace)}
        self._call("removeNamespaceFromSCOCache", arguments, req_timeout_secs)


def handle_argument(handle: object) -> Dict[str, str]:
    """A part of the read cache as argument."""
    if not isinstance(handle, ClusterCacheHandle):
        raise TypeError(f"handle must be a ClusterCacheHandle, not {type(handle).__name__}")
    return {"cluster_cache_handle": wire_text(handle)}
