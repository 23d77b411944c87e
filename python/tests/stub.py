"""A node that answers as a test says."""

import contextlib
import socket
import threading
import xmlrpc.client
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict, List, Tuple

from volumedriver.storagerouter.storagerouterclient import ClusterContact

#: What a stub does with a method and its struct; an exception of xmlrpc.client.Fault becomes a fault.
Answer = Callable[[str, Dict[str, Any]], Any]


class Raw(bytes):
    """An answer's body as it is."""


class Status(int):
    """An answer with this status."""


class Stub:
    """An XML-RPC server on a port of its own, in a thread. Use it in a ``with`` block."""

    def __init__(self, answer: Answer) -> None:
        self.requests: List[Tuple[str, Tuple[Any, ...]]] = []
        self.headers: List[Dict[str, str]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                params, method = xmlrpc.client.loads(body, use_builtin_types=True)
                stub.requests.append((str(method), params))
                stub.headers.append(dict(self.headers.items()))
                status, content = stub._content(answer, str(method), params)
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @staticmethod
    def _content(answer: Answer, method: str, params: Tuple[Any, ...]) -> Tuple[int, bytes]:
        struct = params[0] if params else {}
        try:
            result = answer(method, struct)
        except xmlrpc.client.Fault as fault:
            return 200, xmlrpc.client.dumps(fault).encode()
        if isinstance(result, Raw):
            return 200, bytes(result)
        if isinstance(result, Status):
            # A body that could be taken for a result.
            return int(result), xmlrpc.client.dumps((["refused"],), methodresponse=True).encode()
        return 200, xmlrpc.client.dumps((result,), methodresponse=True).encode()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def contact(self) -> ClusterContact:
        return ClusterContact("127.0.0.1", self.port)

    @property
    def methods(self) -> List[str]:
        return [method for method, _ in self.requests]

    @property
    def last(self) -> Dict[str, Any]:
        """The struct of the last request, without the cluster id."""
        struct = dict(self.requests[-1][1][0])
        struct.pop("vrouter_cluster_id")
        return struct

    def redirect(self) -> Dict[str, str]:
        """A result that leads here."""
        return {"xmlrpc_redirect_host": "127.0.0.1", "xmlrpc_redirect_port": str(self.port)}

    def __enter__(self) -> "Stub":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def dead_contact() -> ClusterContact:
    """A contact where nobody listens: a port that was free a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return ClusterContact("127.0.0.1", free.getsockname()[1])


class Rude:
    """Reads a request and closes the connection. Use it in a ``with`` block."""

    def __enter__(self) -> ClusterContact:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return ClusterContact("127.0.0.1", self._socket.getsockname()[1])

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)

    def __exit__(self, *_: Any) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


class Slow:
    """Begins an answer and adds a byte every now and then, for ever. Use it in a ``with`` block."""

    def __enter__(self) -> ClusterContact:
        self._end = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return ClusterContact("127.0.0.1", self._socket.getsockname()[1])

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            while not self._end.wait(0.2):
                connection.sendall(b" ")

    def __exit__(self, *_: Any) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()


class Silent:
    """Takes connections and says nothing. Use it in a ``with`` block."""

    def __enter__(self) -> ClusterContact:
        self._socket = socket.create_server(("127.0.0.1", 0))
        return ClusterContact("127.0.0.1", self._socket.getsockname()[1])

    def __exit__(self, *_: Any) -> None:
        self._socket.close()
