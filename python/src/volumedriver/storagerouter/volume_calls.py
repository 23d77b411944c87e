"""Calls about volumes as such: making, listing, moving, removing them."""

from typing import Any, Dict, List, Mapping, Optional

from . import errors, waiting, wire
from .calls import MAX_REDIRECTS, Caller
from .metadata_backend import MetaDataBackendConfig
from .statistics import Statistics
from .volume_info import VolumeInfo

#: What is raised while an object is on its way to where it shall run.
ON_ITS_WAY = (
    errors.MaxRedirectsExceededException,
    errors.VolumeRestartInProgressException,
    errors.NodeNotReachableException,
)


class Calls:
    """Base of the parts of a client."""

    #: Redirects that a call follows before it gives up.
    max_redirects: int = MAX_REDIRECTS

    _caller: Caller

    def _call(self, method: str, arguments: Mapping[str, Any], timeout_secs: Optional[int]) -> Any:
        return self._caller.call(method, arguments, timeout_secs, self.max_redirects)

    def _of_volume(
        self, method: str, volume_id: str, timeout_secs: Optional[int], arguments: Optional[Dict[str, Any]] = None
    ) -> Any:
        """Calls a method about one volume."""
        named = {"volume_id": wire.text_argument("volume_id", volume_id), **(arguments or {})}
        return self._call(method, named, timeout_secs)

    def _of_node(
        self, method: str, node_id: str, timeout_secs: Optional[int], arguments: Optional[Dict[str, Any]] = None
    ) -> Any:
        """Calls a method that this node shall answer."""
        named = {"vrouter_id": wire.text_argument("node_id", node_id), **(arguments or {})}
        return self._call(method, named, timeout_secs)

    def _statistics(self, method: str, arguments: Mapping[str, Any], timeout_secs: Optional[int]) -> Statistics:
        """Asks for statistics in their newest form, and in the old one where the server has no other."""
        newest = f"{method}V3"
        try:
            result = self._call(newest, arguments, timeout_secs)
        except errors.ServerFault:
            if newest in self._caller.names(timeout_secs):
                raise
            result = self._call(method, arguments, timeout_secs)
        return Statistics._of(wire.struct(result, "statistics"))


class VolumeCalls(Calls):
    """Making, listing, moving and removing volumes."""

    def create_volume(
        self,
        target_path: str,
        metadata_backend_config: Optional[MetaDataBackendConfig],
        volume_size: str,
        node_id: str = "",
        req_timeout_secs: Optional[int] = None,
    ) -> str:
        """Make a volume; returns its id.

        ``target_path`` is ``/NAME``, ``volume_size`` a size with unit (``"10GiB"``). ``metadata_backend_config`` is
        ``None`` for the server's default. ``node_id`` names the node that shall own it, if not the one that is asked.
        Raises InsufficientResourcesException, FileExistsException.
        """
        arguments = {"volume_size": wire.text_argument("volume_size", volume_size)}
        return self._create("volumeCreate", target_path, metadata_backend_config, arguments, node_id, req_timeout_secs)

    def create_clone(
        self,
        target_path: str,
        metadata_backend_config: Optional[MetaDataBackendConfig],
        parent_volume_id: str,
        parent_snapshot_id: str,
        node_id: str = "",
        req_timeout_secs: Optional[int] = None,
    ) -> str:
        """Make a volume that begins as a snapshot of another one; returns its id.

        Raises ObjectNotFoundException, InvalidOperationException, InsufficientResourcesException,
        FileExistsException.
        """
        arguments = {
            "parent_volume_id": wire.text_argument("parent_volume_id", parent_volume_id),
            "parent_snapshot_id": wire.text_argument("parent_snapshot_id", parent_snapshot_id),
        }
        return self._create("volumeClone", target_path, metadata_backend_config, arguments, node_id, req_timeout_secs)

    def create_clone_from_template(
        self,
        target_path: str,
        metadata_backend_config: Optional[MetaDataBackendConfig],
        parent_volume_id: str,
        node_id: str = "",
        req_timeout_secs: Optional[int] = None,
    ) -> str:
        """Make a volume that begins as a template; returns its id. Raises what ``create_clone`` does."""
        return self.create_clone(target_path, metadata_backend_config, parent_volume_id, "", node_id, req_timeout_secs)

    def _create(
        self,
        method: str,
        target_path: str,
        backend: Optional[MetaDataBackendConfig],
        arguments: Dict[str, Any],
        node_id: str,
        timeout_secs: Optional[int],
    ) -> str:
        arguments["target_path"] = wire.text_argument("target_path", target_path)
        if backend is not None:
            arguments["metadata_backend_config"] = backend_argument(backend)
        if wire.text_argument("node_id", node_id):
            arguments["vrouter_id"] = node_id
        result = wire.struct(self._call(method, arguments, timeout_secs), method)
        return wire.text(result, "volume_id")

    def truncate(self, object_id: str, new_size: str, req_timeout_secs: Optional[int] = None) -> None:
        """Give a volume a larger size, with unit (``"100GiB"``). A smaller one is refused."""
        arguments = {"volume_size": wire.text_argument("new_size", new_size)}
        self._of_volume("resizeObject", object_id, req_timeout_secs, arguments)

    def unlink(self, target_path: str, req_timeout_secs: Optional[int] = None) -> None:
        """Remove a volume by its path. Raises ObjectStillHasChildrenException."""
        self._call("unlink", {"target_path": wire.text_argument("target_path", target_path)}, req_timeout_secs)

    def update_metadata_backend_config(
        self,
        volume_id: str,
        metadata_backend_config: MetaDataBackendConfig,
        req_timeout_secs: Optional[int] = None,
    ) -> None:
        """Change where the map of a volume is kept besides its node. Raises InvalidOperationException."""
        arguments = {"metadata_backend_config": backend_argument(metadata_backend_config)}
        self._of_volume("updateMetaDataBackendConfig", volume_id, req_timeout_secs, arguments)

    def list_volumes(self, node_id: Optional[str] = None, req_timeout_secs: Optional[int] = None) -> List[str]:
        """List volumes and templates: of the cluster, or those that run on a node."""
        arguments = {} if node_id is None else {"vrouter_id": wire.text_argument("node_id", node_id)}
        return texts(self._call("volumesList", arguments, req_timeout_secs), "volumesList")

    def list_halted_volumes(self, node_id: str, req_timeout_secs: Optional[int] = None) -> List[str]:
        """List the volumes that are halted on a node."""
        return texts(self._of_node("volumesListHalted", node_id, req_timeout_secs), "volumesListHalted")

    def list_volumes_by_path(self, req_timeout_secs: Optional[int] = None) -> List[str]:
        """List the paths of all volumes and templates of the cluster."""
        return texts(self._call("volumesListByPath", {}, req_timeout_secs), "volumesListByPath")

    def info_volume(
        self, volume_id: str, req_timeout_secs: Optional[int] = None, redirect_fenced: bool = True
    ) -> VolumeInfo:
        """Tell about a volume, a halted one too.

        With ``redirect_fenced`` false a node whose instance was fenced tells about that instance. Raises
        ObjectNotFoundException, MaxRedirectsExceededException (registered, but not running).
        """
        arguments = {"redirect_fenced": wire.flag_argument(redirect_fenced)}
        result = self._of_volume("volumeInfo", volume_id, req_timeout_secs, arguments)
        return VolumeInfo._of(wire.struct(result, "volumeInfo"))

    def statistics_volume(
        self, volume_id: str, reset: bool = False, req_timeout_secs: Optional[int] = None
    ) -> Statistics:
        """Tell the counters of a volume; with ``reset`` they begin anew. Raises VolumeHaltedException."""
        arguments = {"volume_id": wire.text_argument("volume_id", volume_id), "reset": wire.flag_argument(reset)}
        return self._statistics("volumePerformanceCounters", arguments, req_timeout_secs)

    def set_volume_as_template(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> None:
        """Make a template of a volume, for good. One that is a template stays one. Raises InvalidOperationException."""
        self._of_volume("setVolumeAsTemplate", volume_id, req_timeout_secs)

    def get_volume_id(self, path: str, req_timeout_secs: Optional[int] = None) -> Optional[str]:
        """Tell which volume is at a path; ``None`` if there is none."""
        arguments = {"target_path": wire.text_argument("path", path)}
        found = wire.maybe(self._call("getVolumeId", arguments, req_timeout_secs), "volume_id")
        return None if found is None else str(found)

    def get_object_id(self, path: str, req_timeout_secs: Optional[int] = None) -> Optional[str]:
        """Tell which object is at a path; ``None`` if there is none."""
        arguments = {"target_path": wire.text_argument("path", path)}
        found = wire.maybe(self._call("getObjectId", arguments, req_timeout_secs), "object_id")
        return None if found is None else str(found)

    def stop_object(
        self,
        object_id: str,
        delete_local_data: bool,
        req_timeout_secs: Optional[int] = None,
        node_id: Optional[str] = None,
    ) -> None:
        """Stop a volume where it runs, or its instance on a node whoever owns it."""
        arguments = {"delete_local_data": wire.flag_argument(delete_local_data)}
        if node_id is not None:
            arguments["vrouter_id"] = wire.text_argument("node_id", node_id)
        self._of_volume("stopVolume", object_id, req_timeout_secs, arguments)

    def restart_object(
        self,
        object_id: str,
        force_restart: bool,
        req_timeout_secs: Optional[int] = None,
        *,
        wait: bool = False,
        wait_timeout_secs: float = waiting.WAIT_TIMEOUT_SECS,
        progress: Optional[waiting.Listener] = None,
    ) -> None:
        """Start a volume again. ``force_restart``: also when data that only the DTL has would be lost.

        With ``wait``, until it runs.
        """
        arguments = {"force": wire.flag_argument(force_restart)}
        self._of_volume("restartVolume", object_id, req_timeout_secs, arguments)
        if wait:
            self._until_runs("restart", object_id, None, wait_timeout_secs, progress)

    def migrate(
        self,
        object_id: str,
        node_id: str,
        force_restart: bool,
        req_timeout_secs: Optional[int] = None,
        *,
        wait: bool = False,
        wait_timeout_secs: float = waiting.WAIT_TIMEOUT_SECS,
        progress: Optional[waiting.Listener] = None,
    ) -> None:
        """Move a volume to a node. ``force_restart``: also when its node does not answer.

        With ``wait``, until it runs there.
        """
        arguments = {"force": wire.flag_argument(force_restart)}
        arguments["vrouter_id"] = wire.text_argument("node_id", node_id)
        self._of_volume("migrateVolume", object_id, req_timeout_secs, arguments)
        if wait:
            self._until_runs("migrate", object_id, node_id, wait_timeout_secs, progress)

    def _until_runs(
        self,
        operation: str,
        object_id: str,
        node_id: Optional[str],
        timeout_secs: float,
        progress: Optional[waiting.Listener],
    ) -> None:
        def runs() -> bool:
            try:
                info = self.info_volume(object_id)
            except ON_ITS_WAY:
                return False
            return node_id is None or info.vrouter_id == node_id

        waiting.until(runs, operation, object_id, timeout_secs, progress)


def backend_argument(config: object) -> Dict[str, Any]:
    """A configuration of the metadata backend as the wire wants it."""
    if not isinstance(config, MetaDataBackendConfig):
        raise TypeError(f"metadata_backend_config must be a MetaDataBackendConfig, not {type(config).__name__}")
    return config._struct()


def texts(result: Any, what: str) -> List[str]:
    """An array of texts."""
    return [str(item) for item in wire.array(result, what)]
