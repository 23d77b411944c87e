"""Calls over XML-RPC: one struct in, one value out, asked of one contact after the other, followed when redirected."""

import http.client
import socket
import ssl
import threading
import time
import xmlrpc.client
from base64 import b64encode
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Tuple
from xml.parsers.expat import ExpatError

from . import errors
from .contacts import ClusterContact

#: Redirects that are followed before a call gives up.
MAX_REDIRECTS = 2

#: Longest answer that is read, in bytes.
ANSWER_LIMIT = 256 << 20

#: How much of an answer is read at a time, in bytes.
CHUNK = 1 << 16

#: Statuses that say something about the request; others count as a node that is not there.
REFUSALS = {
    400: "it does not understand the request",
    401: "the token is missing or wrong; give token=",
    403: "the token does not allow this",
    404: "no admin RPC is at this address",
    405: "no admin RPC is at this address",
    413: "the request is too long",
}

Address = Tuple[str, int]


class Unreachable(Exception):
    """A node did not answer, or not in a way that can be understood."""


class Access(NamedTuple):
    """What a node wants to see: a token, and how the connection is encrypted (``None``: not at all)."""

    token: Optional[str] = None
    tls: Optional[ssl.SSLContext] = None


def post(address: Address, method: str, params: "tuple[Any, ...]", timeout: Optional[float], access: Access) -> Any:
    """One request to one node; the result as the server sent it.

    ``timeout`` bounds all of it, in seconds. Raises :class:`Unreachable`, :class:`errors.ServerFault`, or a
    ``RuntimeError`` when the node refuses the request as such.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    body = xmlrpc.client.dumps(params, method, encoding="utf-8").encode("utf-8", "surrogateescape")
    connection = connect(address, timeout, access)
    try:
        headers = {"Content-Type": "text/xml", "User-Agent": "volumedriver-python"}
        if access.token is not None:
            basic = b64encode(f"ovs:{access.token}".encode()).decode("ascii")
            headers["Authorization"] = f"Basic {basic}"
        connection.request("POST", "/RPC2", body, headers)
        # Kept, because the connection forgets it once the answer says that it is the last.
        sock = connection.sock
        limit(sock, deadline)
        answer = connection.getresponse()
        content = read(sock, answer, deadline)
        if answer.status in REFUSALS:
            told = content[:1024].decode("utf-8", "replace").strip()
            reason = f"{REFUSALS[answer.status]} ({answer.status} {answer.reason}{': ' if told else ''}{told})"
            raise RuntimeError(f"{method} was refused by {address[0]}:{address[1]}: {reason}")
        if answer.status != 200:
            raise Unreachable(f"{answer.status} {answer.reason}")
        values, _ = xmlrpc.client.loads(content, use_builtin_types=True)
        return values[0]
    except xmlrpc.client.Fault as fault:
        raise errors.ServerFault(method, fault.faultCode, fault.faultString) from None
    except Unreachable:
        raise
    except ssl.SSLCertVerificationError as error:
        told = f"its certificate is not trusted ({error.verify_message}); give tls= a context that knows its authority"
        raise Unreachable(told) from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    except (ExpatError, xmlrpc.client.Error, ValueError, TypeError, LookupError) as error:
        raise Unreachable(f"its answer cannot be understood: {error}") from error
    finally:
        connection.close()


def connect(address: Address, timeout: Optional[float], access: Access) -> http.client.HTTPConnection:
    """A connection that is opened by the first request on it."""
    host, port = address
    if access.tls is not None:
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=access.tls)
    return http.client.HTTPConnection(host, port, timeout=timeout)


def limit(sock: Optional[socket.socket], deadline: Optional[float]) -> None:
    """Lets the next operation take what is left of the time."""
    if deadline is None:
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise Unreachable("timed out")
    if sock is not None:
        sock.settimeout(left)


def read(sock: Optional[socket.socket], answer: http.client.HTTPResponse, deadline: Optional[float]) -> bytes:
    """All of an answer, within time and size."""
    parts, size = [], 0
    # Closed once all of it was read, and the socket with it.
    while not answer.isclosed():
        limit(sock, deadline)
        part = answer.read1(CHUNK)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > ANSWER_LIMIT:
            raise Unreachable(f"its answer is longer than {ANSWER_LIMIT} bytes")
    if answer.length:
        raise Unreachable(f"its answer ended {answer.length} bytes early")
    return b"".join(parts)


class Caller:
    """Calls methods of a cluster. The contact that answered last is asked first."""

    def __init__(
        self,
        cluster_id: str,
        contacts: Iterable[ClusterContact],
        timeout_secs: Optional[int],
        access: Access = Access(),  # noqa: B008 (it cannot be changed)
    ) -> None:
        """Connects to nobody."""
        self.cluster_id = cluster_id
        self.timeout_secs = checked_timeout("client_timeout_secs", timeout_secs)
        self.access = access
        self.closed = False
        self._lock = threading.Lock()
        self._contacts: List[Address] = []
        for contact in contacts:
            if not isinstance(contact, ClusterContact):
                raise TypeError(f"cluster_contacts must hold ClusterContact, not {type(contact).__name__}")
            self._contacts.append((contact.host, contact.port))

    def another(self) -> "Caller":
        """One that asks the same contacts, and is closed by itself."""
        contacts = [ClusterContact(host, port) for host, port in self.contacts()]
        return Caller(self.cluster_id, contacts, self.timeout_secs, self.access)

    def call(
        self,
        method: str,
        arguments: Mapping[str, Any],
        timeout_secs: Optional[int] = None,
        max_redirects: int = MAX_REDIRECTS,
    ) -> Any:
        """The result of ``method``; raises what the documentation of :mod:`errors` says."""
        if self.closed:
            raise RuntimeError(f"{method}: this client was closed")
        limit_secs = checked_timeout("req_timeout_secs", timeout_secs)
        timeout = self.timeout_secs if limit_secs is None else limit_secs
        request = {"vrouter_cluster_id": self.cluster_id, **arguments}
        with self._lock:
            contacts = list(self._contacts)
        problems = []
        for contact in contacts:
            try:
                result = post(contact, method, (request,), timeout, self.access)
            except Unreachable as problem:
                problems.append(f"{contact[0]}:{contact[1]}: {problem}")
                self._put_last(contact)
                continue
            return self._follow(method, request, result, timeout, max_redirects)
        told = "; ".join(problems) or "there are no contacts"
        raise errors.ClusterNotReachableException(f"failed to send XMLRPC request {method}: {told}")

    def _put_last(self, contact: Address) -> None:
        """Lets later calls ask the others first."""
        with self._lock:
            if self._contacts and self._contacts[0] == contact:
                self._contacts.append(self._contacts.pop(0))

    def _follow(
        self, method: str, request: Dict[str, Any], result: Any, timeout: Optional[float], max_redirects: int
    ) -> Any:
        """Goes where the result leads, until it is one."""
        redirects = 0
        while True:
            if isinstance(result, Mapping) and "xmlrpc_error_code" in result:
                raise errors.of_result(method, result)
            if not (isinstance(result, Mapping) and "xmlrpc_redirect_host" in result):
                return result
            address = redirect_address(method, result)
            redirects += 1
            if redirects > max_redirects:
                raise errors.MaxRedirectsExceededException(
                    f"{method}: redirected more than {max_redirects} times, last to {address[0]}:{address[1]}; "
                    "the object is registered there but does not run there"
                )
            try:
                result = post(address, method, (request,), timeout, self.access)
            except Unreachable as problem:
                raise errors.NodeNotReachableException(
                    f"failed to send XMLRPC request {method} to {address[0]}:{address[1]}: {problem}"
                ) from problem

    def names(self, timeout_secs: Optional[int] = None) -> List[str]:
        """The methods that the first contact that answers has. No cluster id is asked for."""
        with self._lock:
            contacts = list(self._contacts)
        limit_secs = checked_timeout("req_timeout_secs", timeout_secs)
        timeout = self.timeout_secs if limit_secs is None else limit_secs
        for contact in contacts:
            try:
                names = post(contact, "system.listMethods", (), timeout, self.access)
            except Unreachable:
                continue
            return [str(name) for name in names]
        raise errors.ClusterNotReachableException("failed to send XMLRPC request system.listMethods")

    def contacts(self) -> List[Address]:
        """The contacts, the one that is asked next first."""
        with self._lock:
            return list(self._contacts)


def redirect_address(method: str, result: Mapping[str, Any]) -> Address:
    """Where a redirect leads."""
    host, port = result["xmlrpc_redirect_host"], result.get("xmlrpc_redirect_port")
    try:
        number = int(str(port))
    except ValueError:
        number = 0
    if not isinstance(host, str) or not host or not 0 < number < 65536:
        raise RuntimeError(f"{method}: redirected to {host!r} port {port!r}, which is no address")
    return host, number


def checked_timeout(name: str, seconds: Optional[int]) -> Optional[int]:
    """A time-out in whole seconds, at least 1; ``None``: none."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise TypeError(f"{name} must be an int or None, not {type(seconds).__name__}")
    if seconds < 1:
        raise ValueError(f"{name} must be at least 1, or None for no limit; not {seconds}")
    return seconds
