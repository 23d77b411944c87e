"""As much of an NBD client as these tests need."""

import contextlib
import itertools
import socket
import struct
from types import TracebackType
from typing import Optional, Tuple, Type
from urllib.parse import urlsplit

REPLY, REQUEST = 0x67446698, 0x25609513
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3


class Nbd:
    """A connection to one export. Use it in a ``with`` block."""

    def __init__(self, url: str, export: str, patience: float = 60) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        self._socket = socket.create_connection((parts.hostname, parts.port), patience)
        self._handles = itertools.count(1)
        magic, option_magic, _flags = struct.unpack(">8s8sH", self._take(18))
        assert (magic, option_magic) == (b"NBDMAGIC", b"IHAVEOPT")
        # Fixed newstyle without zeroes, then NBD_OPT_EXPORT_NAME.
        name = export.encode()
        self._socket.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, len(name)) + name)
        self.size, _flags = struct.unpack(">QH", self._take(10))

    @property
    def address(self) -> Tuple[str, int]:
        """This end of the connection."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    def _take(self, length: int) -> bytes:
        parts = b""
        while len(parts) < length:
            part = self._socket.recv(length - len(parts))
            if not part:
                raise EOFError("the server closed the connection")
            parts += part
        return parts

    def _ask(self, command: int, offset: int, length: int, data: bytes = b"") -> bytes:
        handle = next(self._handles)
        self._socket.sendall(struct.pack(">IHHQQI", REQUEST, 0, command, handle, offset, length) + data)
        magic, error, answered = struct.unpack(">IIQ", self._take(16))
        assert (magic, answered) == (REPLY, handle)
        if error:
            raise OSError(error, "the server refused")
        return self._take(length) if command == READ else b""

    def read(self, offset: int, length: int) -> bytes:
        return self._ask(READ, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        self._ask(WRITE, offset, len(data), data)

    def flush(self) -> None:
        self._ask(FLUSH, 0, 0)

    def __enter__(self) -> "Nbd":
        return self

    def __exit__(
        self,
        _kind: Optional[Type[BaseException]],
        _error: Optional[BaseException],
        _traceback: Optional[TracebackType],
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(struct.pack(">IHHQQI", REQUEST, 0, DISCONNECT, 0, 0, 0))
        self._socket.close()
