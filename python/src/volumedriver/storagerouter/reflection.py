"""What the original's tests of its binding use: values that come back as they were given, and made-up results."""

from typing import Dict, Iterable, List, Optional, Tuple, Type

from . import errors, wire
from .contacts import ArakoonNodeConfig, ClusterNodeConfig
from .enums import ClusterNodeState, Severity

#: What ``generate_exceptions`` raises, by its argument.
BY_NUMBER: Dict[int, Type[Exception]] = {
    1: errors.MaxRedirectsExceededException,
    2: errors.ObjectNotFoundException,
    3: errors.InvalidOperationException,
    4: errors.SnapshotNotFoundException,
    5: errors.FileExistsException,
    6: errors.InsufficientResourcesException,
    7: errors.VolumeRestartInProgressException,
}


class PythonTestHelpers:
    """Static methods only; of no use to other programs."""

    @staticmethod
    def generate_exceptions(exception_type: int) -> None:
        """Raise the exception of a number; 0 raises none."""
        if exception_type in BY_NUMBER:
            raise BY_NUMBER[exception_type]("as asked for")

    @staticmethod
    def generate_node_status_map() -> Dict[str, ClusterNodeState]:
        """A cluster with a node that is up and one that is down."""
        return {"A": ClusterNodeState.ONLINE, "B": ClusterNodeState.OFFLINE}

    @staticmethod
    def generate_update_report() -> List[Dict[str, str]]:
        """A report of two changes."""
        return [{"param_name": f"param{n}", "old_value": f"old_value{n}", "new_value": f"new_value{n}"} for n in (1, 2)]

    @staticmethod
    def reflect_arakoon_node_id(node_id: str) -> str:
        """The same."""
        return wire.text_argument("node_id", node_id)

    @staticmethod
    def reflect_arakoon_node_config(config: ArakoonNodeConfig) -> ArakoonNodeConfig:
        """The same, as another object."""
        return ArakoonNodeConfig(config.node_id, config.host, config.port)

    @staticmethod
    def reflect_cluster_node_config(config: ClusterNodeConfig) -> ClusterNodeConfig:
        """The same, as another object."""
        return ClusterNodeConfig._of(config._fields())

    @staticmethod
    def reflect_cluster_node_config_list(configs: Iterable[ClusterNodeConfig]) -> List[ClusterNodeConfig]:
        """The same, as other objects."""
        return [PythonTestHelpers.reflect_cluster_node_config(config) for config in configs]

    @staticmethod
    def reflect_loglevel(severity: Severity) -> Severity:
        """The same, by way of the wire."""
        return wire.severity(wire.enum_argument("severity", Severity, severity))

    @staticmethod
    def reflect_logfilter(logfilter: Tuple[str, Severity]) -> Tuple[str, Severity]:
        """The same."""
        name, severity = logfilter
        return wire.text_argument("logfilter", name), PythonTestHelpers.reflect_loglevel(severity)

    @staticmethod
    def reflect_logfilters(logfilters: Iterable[Tuple[str, Severity]]) -> List[Tuple[str, Severity]]:
        """The same."""
        return [PythonTestHelpers.reflect_logfilter(logfilter) for logfilter in logfilters]

    @staticmethod
    def reflect_maybe_volume_id(maybe_volume_id: Optional[str]) -> Optional[str]:
        """The same."""
        return None if maybe_volume_id is None else wire.text_argument("volume_id", maybe_volume_id)

    @staticmethod
    def stringy_things(text: str) -> str:
        """The same."""
        return wire.text_argument("text", text)

    @staticmethod
    def arithmeticy_things(a: int, b: int) -> int:
        """The sum of two numbers that could be ports."""
        for value in (a, b):
            wire.number_argument("a number", value)
            if value > 65535:
                raise OverflowError(f"{value} is larger than 65535")
        return a + b

    @staticmethod
    def reflect_maybe_chrono_seconds(seconds: Optional[int]) -> Optional[int]:
        """The same."""
        return None if seconds is None else int(wire.number_argument("seconds", seconds))

    @staticmethod
    def reflect_dimensioned_value(value: str) -> str:
        """The same."""
        return wire.text_argument("value", value)

    @staticmethod
    def reflect_uri(uri: str) -> str:
        """The same."""
        return wire.text_argument("uri", uri)

    @staticmethod
    def reflect_maybe_node_distance_map(distances: Optional[Dict[str, int]]) -> Optional[Dict[str, int]]:
        """The same, as another object."""
        return None if distances is None else dict(distances)
