"""The configuration store, over the JSON gateway of etcd's v3 API."""

import http.client
import json
import socket
import ssl
from base64 import b64decode, b64encode
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

#: Seconds that a request may take.
TIMEOUT_SECS = 60

#: Keys that are read with one request.
PAGE = 500

#: Longest answer that is read, in bytes.
ANSWER_LIMIT = 64 << 20

Address = Tuple[str, int]


class StoreError(RuntimeError):
    """The store cannot be reached, or refuses."""


class Pair(NamedTuple):
    """A key, its value, and the revision of its last change."""

    key: str
    value: bytes
    mod_revision: int


class Compare(NamedTuple):
    """What must hold for a transaction to happen: the key is unchanged since that revision; 0: it is absent."""

    key: str
    mod_revision: int


class Write(NamedTuple):
    """A key and its new value, with a lease if it shall end with one; ``None`` deletes it."""

    key: str
    value: Optional[bytes]
    lease: int = 0


class Store:
    """One store, at any of its endpoints. The one that answered last is asked first."""

    def __init__(
        self,
        endpoints: Sequence[Address],
        tls: Optional[ssl.SSLContext] = None,
        timeout_secs: float = TIMEOUT_SECS,
    ) -> None:
        """Connects to nobody."""
        if not endpoints:
            raise RuntimeError("a store needs at least one endpoint")
        self._endpoints = list(endpoints)
        self._tls = tls
        self._timeout_secs = timeout_secs

    def get(self, key: str) -> Optional[Pair]:
        """A key; ``None``: absent."""
        found, _ = self._range({"key": encoded(key)})
        return found[0] if found else None

    def below(self, folder: str, keys_only: bool = False) -> List[Pair]:
        """All keys that begin with ``folder``, which ends in ``/``, at one revision, in order."""
        request: Dict[str, Any] = {"key": encoded(folder), "range_end": encoded(after(folder)), "limit": PAGE}
        if keys_only:
            request["keys_only"] = True
        all_found: List[Pair] = []
        while True:
            found, answer = self._range(request)
            all_found += found
            if not answer.get("more") or not found:
                return all_found
            request["key"] = encoded(found[-1].key + "\0")
            request.setdefault("revision", answer.get("header", {}).get("revision", "0"))

    def transact(self, compares: Sequence[Compare], writes: Sequence[Write]) -> bool:
        """Writes all if everything holds; tells whether it did. After an error it is not known whether it happened."""
        answer = self._post(
            "kv/txn",
            {
                "compare": [
                    {
                        "key": encoded(compare.key),
                        "target": "MOD",
                        "result": "EQUAL",
                        "mod_revision": str(compare.mod_revision),
                    }
                    for compare in compares
                ],
                "success": [operation(write) for write in writes],
            },
            is_read=False,
        )
        return bool(answer.get("succeeded", False))

    def grant(self, ttl_secs: int) -> int:
        """A new lease."""
        return int(self._post("lease/grant", {"TTL": str(ttl_secs), "ID": "0"}, is_read=True)["ID"])

    def keep_alive(self, lease: int) -> int:
        """Seconds that a lease has from now on; 0: it has ended."""
        answer = self._post("lease/keepalive", {"ID": str(lease)}, is_read=True)
        return int(answer.get("result", {}).get("TTL", 0))

    def revoke(self, lease: int) -> None:
        """Ends a lease, and deletes its keys."""
        self._post("lease/revoke", {"ID": str(lease)}, is_read=True)

    def watch(self, folder: str, from_revision: int = 0) -> Iterator[Pair]:
        """Keys that begin with ``folder`` as they are written, from a revision on (0: from now on).

        A ``TimeoutError`` when nothing is written within the time of a request. The first endpoint that answers is
        followed until it ends.
        """
        create: Dict[str, Any] = {"key": encoded(folder), "range_end": encoded(after(folder)), "filters": ["NODELETE"]}
        if from_revision:
            create["start_revision"] = str(from_revision)
        connection, answer = self._stream("watch", {"create_request": create})
        try:
            while True:
                line = answer.readline(ANSWER_LIMIT)
                if not line:
                    raise StoreError("the configuration store ended a watch")
                result = understood(200, line).get("result", {})
                if result.get("canceled"):
                    raise StoreError(f"the configuration store ended a watch: {result.get('cancel_reason', '')}")
                yield from pairs_of([event.get("kv", {}) for event in result.get("events", [])])
        except (socket.timeout, TimeoutError):
            raise TimeoutError(f"nothing was written below {folder} within {self._timeout_secs} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise StoreError(f"the configuration store ended a watch: {error}") from error
        finally:
            connection.close()

    def _stream(
        self, path: str, request: Dict[str, Any]
    ) -> Tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """A request whose answer does not end, at the first endpoint that takes it."""
        problems = []
        for endpoint in self._endpoints:
            connection = self._connection(endpoint)
            try:
                connection.request("POST", f"/v3/{path}", json.dumps(request), {"Content-Type": "application/json"})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                problems.append(f"{endpoint[0]}:{endpoint[1]}: {error or type(error).__name__}")
                continue
            if answer.status == 200:
                return connection, answer
            content = answer.read(ANSWER_LIMIT)
            connection.close()
            understood(answer.status, content)
        raise StoreError(f"the configuration store cannot be reached: {'; '.join(problems)}")

    def _range(self, request: Dict[str, Any]) -> Tuple[List[Pair], Dict[str, Any]]:
        answer = self._post("kv/range", request, is_read=True)
        return pairs_of(answer.get("kvs", [])), answer

    def _post(self, path: str, request: Dict[str, Any], is_read: bool) -> Dict[str, Any]:
        """One request. What may be done twice is tried at each endpoint, other requests until one was sent."""
        problems = []
        for endpoint in list(self._endpoints):
            connection = self._connection(endpoint)
            sent = False
            try:
                connection.connect()
                sent = True
                connection.request("POST", f"/v3/{path}", json.dumps(request), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                content = answer.read(ANSWER_LIMIT + 1)
                status = answer.status
            except (OSError, http.client.HTTPException) as error:
                problems.append(f"{endpoint[0]}:{endpoint[1]}: {error or type(error).__name__}")
                if sent and not is_read:
                    raise StoreError(f"what became of a change is not known: {problems[-1]}") from error
                self._endpoints.append(self._endpoints.pop(0))
                continue
            finally:
                connection.close()
            return understood(status, content)
        raise StoreError(f"the configuration store cannot be reached: {'; '.join(problems)}")

    def _connection(self, endpoint: Address) -> http.client.HTTPConnection:
        host, port = endpoint
        if self._tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=self._timeout_secs, context=self._tls)
        return http.client.HTTPConnection(host, port, timeout=self._timeout_secs)


def after(folder: str) -> str:
    """The first key behind all that begin with ``folder``, which ends in ``/``."""
    return folder[:-1] + chr(ord("/") + 1)


def pairs_of(listed: List[Dict[str, Any]]) -> List[Pair]:
    """Keys and values of an answer."""
    try:
        return [
            Pair(
                b64decode(pair["key"]).decode("utf-8", "surrogateescape"),
                b64decode(pair.get("value", "")),
                int(pair["mod_revision"]),
            )
            for pair in listed
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"the configuration store's answer cannot be understood: {error}") from None


def understood(status: int, content: bytes) -> Dict[str, Any]:
    """An answer as JSON; an error of the store is raised."""
    if len(content) > ANSWER_LIMIT:
        raise StoreError(f"the configuration store's answer is longer than {ANSWER_LIMIT} bytes")
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    if status == 200 and isinstance(answer, dict):
        return answer
    told = answer.get("message") or answer.get("error") if isinstance(answer, dict) else None
    shown = told or content[:200].decode("utf-8", "replace")
    raise StoreError(f"the configuration store answered {status}: {shown}")


def operation(write: Write) -> Dict[str, Any]:
    """A write as the gateway wants it."""
    if write.value is None:
        return {"requestDeleteRange": {"key": encoded(write.key)}}
    put = {"key": encoded(write.key), "value": b64encode(write.value).decode("ascii"), "lease": str(write.lease)}
    return {"requestPut": put}


def encoded(text: str) -> str:
    """A key as the gateway wants it."""
    return b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")
