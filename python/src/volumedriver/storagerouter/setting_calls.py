"""Calls about the settings of one volume: SCOs and TLogs, caches, DTL."""

from typing import Any, Dict, Optional

from . import wire
from .dtl import DTLConfig
from .enums import DTLConfigMode, ReadCacheBehaviour, ReadCacheMode
from .volume_calls import Calls


class SettingCalls(Calls):
    """Settings of one volume."""

    def set_sync_ignore(
        self,
        volume_id: str,
        number_of_syncs_to_ignore: int,
        maximum_time_to_ignore_syncs_in_seconds: int,
        req_timeout_secs: Optional[int] = None,
    ) -> None:
        """Say how many flushes in a row, and for how long, need not reach the disk."""
        count, most = number_of_syncs_to_ignore, maximum_time_to_ignore_syncs_in_seconds
        arguments = {
            "number_of_syncs_to_ignore": wire.number_argument("number_of_syncs_to_ignore", count),
            "maximum_time_to_ignore_syncs_in_seconds": wire.number_argument(
                "maximum_time_to_ignore_syncs_in_seconds", most
            ),
        }
        self._of_volume("setSyncIgnore", volume_id, req_timeout_secs, arguments)

    def get_sync_ignore(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> Dict[str, int]:
        """Tell what ``set_sync_ignore`` set, by the names of its arguments."""
        result = wire.struct(self._of_volume("getSyncIgnore", volume_id, req_timeout_secs), "getSyncIgnore")
        keys = ("number_of_syncs_to_ignore", "maximum_time_to_ignore_syncs_in_seconds")
        return {key: wire.numbered(result, key) for key in keys}

    def set_sco_multiplier(self, volume_id: str, sco_multiplier: int, req_timeout_secs: Optional[int] = None) -> None:
        """Set the size of new SCOs, in clusters (1 MiB to 128 MiB). Raises InvalidOperationException."""
        arguments = {"sco_multiplier": wire.number_argument("sco_multiplier", sco_multiplier)}
        self._of_volume("setSCOMultiplier", volume_id, req_timeout_secs, arguments)

    def get_sco_multiplier(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> int:
        """Tell the size of new SCOs, in clusters."""
        result = wire.struct(self._of_volume("getSCOMultiplier", volume_id, req_timeout_secs), "sco_multiplier")
        return wire.number(result.get("sco_multiplier"), "sco_multiplier")

    def set_tlog_multiplier(
        self, volume_id: str, tlog_multiplier: Optional[int], req_timeout_secs: Optional[int] = None
    ) -> None:
        """Set the size of TLogs, in SCOs; ``None``: as the node has it. Raises InvalidOperationException."""
        self._set_maybe("setTLogMultiplier", volume_id, "tlog_multiplier", tlog_multiplier, req_timeout_secs)

    def get_tlog_multiplier(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> Optional[int]:
        """Tell the size of TLogs, in SCOs; ``None``: as the node has it."""
        result = self._of_volume("getTLogMultiplier", volume_id, req_timeout_secs)
        return wire.maybe_number(result, "tlog_multiplier")

    def set_sco_cache_max_non_disposable_factor(
        self,
        volume_id: str,
        max_non_disposable_factor: Optional[float],
        req_timeout_secs: Optional[int] = None,
    ) -> None:
        """Set how much that is not on the backend a volume may keep in the SCO cache, at least 1.0.

        In sizes of a TLog; ``None``: as the node has it. Raises InvalidOperationException.
        """
        arguments = {}
        if max_non_disposable_factor is not None:
            key = "max_non_disposable_factor"
            arguments[key] = wire.factor_argument(key, max_non_disposable_factor)
        self._of_volume("setSCOCacheMaxNonDisposableFactor", volume_id, req_timeout_secs, arguments)

    def get_sco_cache_max_non_disposable_factor(
        self, volume_id: str, req_timeout_secs: Optional[int] = None
    ) -> Optional[float]:
        """Tell what ``set_sco_cache_max_non_disposable_factor`` set; ``None``: as the node has it."""
        result = self._of_volume("getSCOCacheMaxNonDisposableFactor", volume_id, req_timeout_secs)
        return wire.maybe_float(result, "max_non_disposable_factor")

    def set_metadata_cache_capacity(
        self, volume_id: str, num_pages: Optional[int], req_timeout_secs: Optional[int] = None
    ) -> None:
        """Set how many pages of the map are kept in memory, at least 1; ``None``: as the node has it."""
        key = "metadata_cache_capacity"
        self._set_maybe("setMetaDataCacheCapacity", volume_id, key, num_pages, req_timeout_secs)

    def get_metadata_cache_capacity(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> Optional[int]:
        """Tell how many pages of the map are kept in memory; ``None``: as the node has it."""
        result = self._of_volume("getMetaDataCacheCapacity", volume_id, req_timeout_secs)
        return wire.maybe_number(result, "metadata_cache_capacity")

    def get_dtl_config_mode(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> DTLConfigMode:
        """Tell who chooses the DTL of a volume."""
        result = wire.struct(
            self._of_volume("getFailOverCacheConfigMode", volume_id, req_timeout_secs), "foc_config_mode"
        )
        return wire.enum(DTLConfigMode, result.get("foc_config_mode"), "foc_config_mode")

    def get_dtl_config(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> Optional[DTLConfig]:
        """Tell the DTL of a volume; ``None``: it has none. Raises VolumeHaltedException."""
        result = self._of_volume("getFailOverCacheConfig", volume_id, req_timeout_secs)
        return DTLConfig._of(wire.maybe(result, "foc_config"))

    def set_manual_dtl_config(
        self, node_id: str, config: Optional[DTLConfig], req_timeout_secs: Optional[int] = None
    ) -> None:
        """Choose the DTL of a volume; ``None``: none.

        ``node_id`` is the id of the *volume*: the original has this name, so it stays.
        """
        if config is not None and not isinstance(config, DTLConfig):
            raise TypeError(f"config must be a DTLConfig or None, not {type(config).__name__}")
        arguments: Dict[str, Any] = {} if config is None else {"foc_config": config._struct()}
        self._of_volume("setManualFailOverCacheConfig", node_id, req_timeout_secs, arguments)

    def set_automatic_dtl_config(self, node_id: str, req_timeout_secs: Optional[int] = None) -> None:
        """Let the node choose the DTL of a volume. ``node_id`` is the id of the *volume*, as above."""
        self._of_volume("setAutomaticFailOverCacheConfig", node_id, req_timeout_secs)

    def set_readcache_behaviour(
        self,
        volume_id: str,
        behaviour: Optional[ReadCacheBehaviour],
        req_timeout_secs: Optional[int] = None,
    ) -> None:
        """Set when clusters enter the read cache; ``None``: as the node has it."""
        arguments = {}
        if behaviour is not None:
            text = wire.enum_argument("behaviour", ReadCacheBehaviour, behaviour)
            arguments["cluster_cache_behaviour"] = text
        self._of_volume("setClusterCacheBehaviour", volume_id, req_timeout_secs, arguments)

    def get_readcache_behaviour(
        self, volume_id: str, req_timeout_secs: Optional[int] = None
    ) -> Optional[ReadCacheBehaviour]:
        """Tell when clusters enter the read cache; ``None``: as the node has it."""
        result = self._of_volume("getClusterCacheBehaviour", volume_id, req_timeout_secs)
        return wire.maybe_enum(ReadCacheBehaviour, result, "cluster_cache_behaviour")

    def set_readcache_mode(
        self, volume_id: str, mode: Optional[ReadCacheMode], req_timeout_secs: Optional[int] = None
    ) -> None:
        """Set what identifies clusters in the read cache; ``None``: as the node has it.

        There is no way back from ``LOCATION_BASED`` to ``CONTENT_BASED``.
        """
        arguments = {}
        if mode is not None:
            arguments["cluster_cache_mode"] = wire.enum_argument("mode", ReadCacheMode, mode)
        self._of_volume("setClusterCacheMode", volume_id, req_timeout_secs, arguments)

    def get_readcache_mode(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> Optional[ReadCacheMode]:
        """Tell what identifies clusters in the read cache; ``None``: as the node has it."""
        result = self._of_volume("getClusterCacheMode", volume_id, req_timeout_secs)
        return wire.maybe_enum(ReadCacheMode, result, "cluster_cache_mode")

    def set_readcache_limit(self, volume_id: str, limit: Optional[int], req_timeout_secs: Optional[int] = None) -> None:
        """Set most clusters in the read cache, at least 1; ``None``: no limit of its own."""
        key = "cluster_cache_limit"
        self._set_maybe("setClusterCacheLimit", volume_id, key, limit, req_timeout_secs)

    def get_readcache_limit(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> Optional[int]:
        """Tell most clusters in the read cache; ``None``: no limit of its own."""
        result = self._of_volume("getClusterCacheLimit", volume_id, req_timeout_secs)
        return wire.maybe_number(result, "cluster_cache_limit")

    def _set_maybe(
        self, method: str, volume_id: str, key: str, value: Optional[int], timeout_secs: Optional[int]
    ) -> None:
        arguments = {} if value is None else {key: wire.number_argument(key, value)}
        self._of_volume(method, volume_id, timeout_secs, arguments)

    def _backend_connection_pool(self, volume_id: str, req_timeout_secs: Optional[int] = None) -> str:
        """Tell about the connections to the backend. No stable interface."""
        result = self._of_volume("getBackendConnectionPool", volume_id, req_timeout_secs)
        return wire.text(wire.struct(result, "backend_config_str"), "backend_config_str")
