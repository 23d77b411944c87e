"""Counters of a volume or node."""

from typing import Any, ClassVar, Dict, List, Mapping, Tuple

from . import wire
from .records import Record

#: The ``min`` of a counter without events.
NO_MINIMUM = (1 << 64) - 1

#: Upper bounds of buckets: sizes in bytes, times in microseconds.
SIZES = tuple(kib << 10 for kib in (4, 8, 16, 32, 64, 128, 256, 512))
USECS = (100, 250, 500, 750, 1000, 2000, 5000, 10_000, 100_000, 1_000_000)


class Counter(Record):
    """Events with a value each. A bucket counts the events whose value is below its bound and not in one before."""

    _bounds: ClassVar[Tuple[int, ...]] = ()

    @classmethod
    def _defaults(cls) -> Dict[str, Any]:
        return {"events": 0, "sum": 0, "sqsum": 0, "min": NO_MINIMUM, "max": 0, "buckets": [0] * len(cls._bounds)}

    @classmethod
    def _read(cls, struct: Mapping[str, Any]) -> Dict[str, Any]:
        values: Dict[str, Any] = {
            name: wire.numbered(struct, name, default) for name, default in cls._defaults().items() if name != "buckets"
        }
        buckets: List[Any] = wire.array(struct.get("buckets", []), "buckets")
        counts = [wire.number(count, "buckets") for count in buckets[: len(cls._bounds)]]
        values["buckets"] = counts + [0] * (len(cls._bounds) - len(counts))
        return values

    def events(self) -> int:
        """How many there were."""
        return self._number("events")

    def min(self) -> int:
        """The smallest value; 2^64-1 if there was none."""
        return self._number("min")

    def max(self) -> int:
        """The largest value; 0 if there was none."""
        return self._number("max")

    def sum(self) -> int:
        """All values together."""
        return self._number("sum")

    def sum_of_squares(self) -> int:
        """The squares of all values together."""
        return self._number("sqsum")

    def distribution(self) -> Dict[int, int]:
        """Events by the upper bound of their bucket; values above the last bound are in none."""
        return dict(zip(self._bounds, self._values["buckets"]))


class RequestSizeCounter(Counter):
    """Sizes of requests, in bytes."""

    _root = "RequestSizeCounter"
    _bounds = SIZES


class RequestUSecsCounter(Counter):
    """Durations of requests, in microseconds."""

    _root = "RequestUSecsCounter"
    _bounds = USECS


SIZE_COUNTERS = (
    "write_request_size",
    "unaligned_write_request_size",
    "backend_write_request_size",
    "read_request_size",
    "unaligned_read_request_size",
    "backend_read_request_size",
)
USECS_COUNTERS = (
    "write_request_usecs",
    "backend_write_request_usecs",
    "read_request_usecs",
    "backend_read_request_usecs",
    "sync_request_usecs",
)


class PerformanceCounters(Record):
    """Sizes and durations of requests of clients, and to the backend."""

    _root = "PerformanceCounters"

    @classmethod
    def _defaults(cls) -> Dict[str, Any]:
        sizes: Dict[str, Any] = {name: RequestSizeCounter() for name in SIZE_COUNTERS}
        return {**sizes, **{name: RequestUSecsCounter() for name in USECS_COUNTERS}}

    @classmethod
    def _read(cls, struct: Mapping[str, Any]) -> Dict[str, Any]:
        kinds = {name: type(counter) for name, counter in cls._defaults().items()}
        return {name: kind._of(wire.struct(struct[name], name)) for name, kind in kinds.items() if name in struct}

    def _size(self, name: str) -> RequestSizeCounter:
        value: RequestSizeCounter = self._values[name]
        return value

    def _usecs(self, name: str) -> RequestUSecsCounter:
        value: RequestUSecsCounter = self._values[name]
        return value

    @property
    def write_request_size(self) -> RequestSizeCounter:
        """Sizes of writes."""
        return self._size("write_request_size")

    @property
    def write_request_usecs(self) -> RequestUSecsCounter:
        """Durations of writes."""
        return self._usecs("write_request_usecs")

    @property
    def unaligned_write_request_size(self) -> RequestSizeCounter:
        """Sizes of writes that cover a part of a cluster."""
        return self._size("unaligned_write_request_size")

    @property
    def backend_write_request_usecs(self) -> RequestUSecsCounter:
        """Durations of writes to the backend."""
        return self._usecs("backend_write_request_usecs")

    @property
    def backend_write_request_size(self) -> RequestSizeCounter:
        """Sizes of writes to the backend."""
        return self._size("backend_write_request_size")

    @property
    def read_request_size(self) -> RequestSizeCounter:
        """Sizes of reads."""
        return self._size("read_request_size")

    @property
    def read_request_usecs(self) -> RequestUSecsCounter:
        """Durations of reads."""
        return self._usecs("read_request_usecs")

    @property
    def unaligned_read_request_size(self) -> RequestSizeCounter:
        """Sizes of reads of a part of a cluster."""
        return self._size("unaligned_read_request_size")

    @property
    def backend_read_request_size(self) -> RequestSizeCounter:
        """Sizes of reads from the backend."""
        return self._size("backend_read_request_size")

    @property
    def backend_read_request_usecs(self) -> RequestUSecsCounter:
        """Durations of reads from the backend."""
        return self._usecs("backend_read_request_usecs")

    @property
    def sync_request_usecs(self) -> RequestUSecsCounter:
        """Durations of flushes."""
        return self._usecs("sync_request_usecs")


STATISTICS = (
    "sco_cache_hits",
    "sco_cache_misses",
    "cluster_cache_hits",
    "cluster_cache_misses",
    "metadata_store_hits",
    "metadata_store_misses",
    "stored",
    "partial_read_fast",
    "partial_read_slow",
)


class Statistics(Record):
    """Hits and misses of caches, and the performance counters."""

    _root = "XMLRPCStatisticsV2"

    @classmethod
    def _defaults(cls) -> Dict[str, Any]:
        numbers: Dict[str, Any] = dict.fromkeys(STATISTICS, 0)
        return {**numbers, "performance_counters": PerformanceCounters()}

    @classmethod
    def _read(cls, struct: Mapping[str, Any]) -> Dict[str, Any]:
        values: Dict[str, Any] = {name: wire.numbered(struct, name) for name in STATISTICS}
        counters = struct.get("performance_counters", {})
        values["performance_counters"] = PerformanceCounters._of(wire.struct(counters, "performance_counters"))
        return values

    @property
    def sco_cache_hits(self) -> int:
        """Reads of SCOs that were in the SCO cache."""
        return self._number("sco_cache_hits")

    @property
    def sco_cache_misses(self) -> int:
        """Reads of SCOs that were not in the SCO cache."""
        return self._number("sco_cache_misses")

    @property
    def cluster_cache_hits(self) -> int:
        """Reads of clusters that were in the read cache."""
        return self._number("cluster_cache_hits")

    @property
    def cluster_cache_misses(self) -> int:
        """Reads of clusters that were not in the read cache."""
        return self._number("cluster_cache_misses")

    @property
    def metadata_store_hits(self) -> int:
        """Look-ups in the map whose page was in memory."""
        return self._number("metadata_store_hits")

    @property
    def metadata_store_misses(self) -> int:
        """Look-ups in the map whose page was not in memory."""
        return self._number("metadata_store_misses")

    @property
    def stored(self) -> int:
        """Bytes that are taken where data are kept."""
        return self._number("stored")

    @property
    def partial_read_fast(self) -> int:
        """Reads of parts of objects that the backend's proxy served from a cache."""
        return self._number("partial_read_fast")

    @property
    def partial_read_slow(self) -> int:
        """Reads of parts of objects that went to the backend."""
        return self._number("partial_read_slow")

    @property
    def performance_counters(self) -> PerformanceCounters:
        """Sizes and durations of requests."""
        value: PerformanceCounters = self._values["performance_counters"]
        return value
