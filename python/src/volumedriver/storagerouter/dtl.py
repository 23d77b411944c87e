"""Where the DTL of a volume is."""

from typing import Any, Dict, Mapping, Optional

from . import wire
from .contacts import port_number
from .enums import DTLMode


class DTLConfig:
    """The address of a DTL, and whether writes wait for it."""

    def __init__(self, host: str, port: int, mode: DTLMode = DTLMode.ASYNCHRONOUS) -> None:
        """Keeps all three; nothing is connected."""
        self._host = wire.text_argument("host", host)
        self._port = port_number("port", port)
        wire.enum_argument("mode", DTLMode, mode)
        self._mode = mode

    @property
    def host(self) -> str:
        """Name or address of its host."""
        return self._host

    @property
    def port(self) -> int:
        """Its port."""
        return self._port

    @property
    def mode(self) -> DTLMode:
        """Whether writes wait for it."""
        return self._mode

    def _struct(self) -> Dict[str, Any]:
        mode = wire.enum_argument("mode", DTLMode, self._mode)
        return {"host": self._host, "port": str(self._port), "mode": mode}

    @staticmethod
    def _of(struct: Any) -> "Optional[DTLConfig]":
        """What a struct from the wire says; ``None`` when there is no DTL."""
        if not isinstance(struct, Mapping) or not struct:
            return None
        mode = wire.enum(DTLMode, struct.get("mode"), "mode")
        try:
            return DTLConfig(wire.text(struct, "host"), wire.numbered(struct, "port"), mode)
        except OverflowError as error:
            raise RuntimeError(f"foc_config cannot be read: {error}") from None

    def __eq__(self, other: object) -> bool:
        """Whether all three are the same."""
        if not isinstance(other, DTLConfig):
            return NotImplemented
        return self._struct() == other._struct()

    def __hash__(self) -> int:
        """Equal ones have equal hashes."""
        return hash((self._host, self._port, int(self._mode)))

    def __repr__(self) -> str:
        """As ``DTLConfig(host:port,Asynchronous)``."""
        return f"DTLConfig({self._host}:{self._port},{str(self._mode).capitalize()})"
