"""From the location of a configuration to the node that runs with it.

Locations are ``etcd://HOST:PORT,…/ovs/vpools/GUID/hosts/ID/config`` (``config`` in a node's ``endpoints.json``, and
``?cacert=FILE&cert=FILE&key=FILE`` for TLS), or the node's data directory as ``file:DIR`` or plain path.
"""

import json
import os
import ssl
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from urllib.parse import parse_qsl, unquote, urlsplit

from .store import TIMEOUT_SECS, Store

#: The port of an endpoint that names none.
STORE_PORT = 2379

#: What a running node writes into its data directory.
ENDPOINTS = "endpoints.json"

#: Longest ``endpoints.json``, in bytes.
FILE_LIMIT = 1 << 20


class Place(NamedTuple):
    """A path in a store."""

    store: Store
    path: str


class Node(NamedTuple):
    """A node: who it is, where its admin RPC is, and the URL of its documents (empty: not known)."""

    vrouter_id: str
    vrouter_cluster_id: str
    host: str
    port: int
    token: Optional[str]
    is_encrypted: bool
    config_url: str


def find(location: str) -> Node:
    """The node that runs with the configuration at ``location``. A ``RuntimeError`` says why none was found."""
    if not isinstance(location, str):
        raise TypeError(f"config_location must be a str, not {type(location).__name__}")
    if location.startswith("etcd://"):
        return in_store(location)
    if location.startswith("arakoon://"):
        raise RuntimeError(f"{location}: there is no Arakoon here; give etcd://HOST:PORT/PATH or a data directory")
    if location.startswith("file:"):
        rest = location[len("file:") :]
        location = unquote(rest[2:] if rest.startswith("//") else rest)
    elif "://" in location:
        raise RuntimeError(f"{location}: give etcd://HOST:PORT/PATH, or a data directory as path or file:PATH")
    return in_directory(location)


def in_directory(path: str) -> Node:
    """The node of a data directory, from its ``endpoints.json``."""
    if not path:
        raise RuntimeError("the location is empty; give etcd://HOST:PORT/PATH or a data directory")
    candidates = (
        [path]
        if os.path.basename(path) == ENDPOINTS
        else [
            os.path.join(path, ENDPOINTS),
            os.path.join(os.path.dirname(os.path.abspath(path)), ENDPOINTS),
        ]
    )
    for candidate in candidates:
        try:
            with open(candidate, "rb") as file:
                content = file.read(FILE_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise RuntimeError(f"{candidate}: {error.strerror}") from None
        described = document(content, candidate)
        cluster_id = named(described, "vrouter_cluster_id") or named(described, "vpool_guid")
        return node(described, candidate, named(described, "vrouter_id"), cluster_id, named(described, "config"))
    raise RuntimeError(f"{path}: no {ENDPOINTS} there; a node writes it while it runs (`ovs up`)")


def in_store(url: str) -> Node:
    """The node whose documents are at a URL of a store, from what it says of itself beside them."""
    store, path = place(url)
    parts = path.split("/")
    if len(parts) != 7 or parts[1:3] != ["ovs", "vpools"] or parts[4] != "hosts" or parts[6] != "config":
        raise RuntimeError(f"{url}: the path must be /ovs/vpools/GUID/hosts/ID/config")
    host = path[: -len("/config")]
    for key in (f"{host}/status", f"{host}/last_status"):
        pair = store.get(key)
        if pair is None:
            continue
        described = document(pair.value, key)
        if named(described, "xmlrpc"):
            cluster_id = named(described, "vrouter_cluster_id") or parts[3]
            return node(described, key, parts[5], cluster_id, url)
    if not store.below(f"{path}/", keys_only=True):
        raise RuntimeError(f"{url}: there is no such configuration")
    raise RuntimeError(f"{url}: the node {parts[5]} has not said where its admin RPC is; has it run yet?")


def node(described: Dict[str, Any], origin: str, vrouter_id: str, cluster_id: str, config_url: str) -> Node:
    """A node, with its address from the ``xmlrpc`` of what it says of itself."""
    try:
        url = urlsplit(named(described, "xmlrpc"))
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if not host or not port or url.scheme not in ("http", "https"):
        raise RuntimeError(f"{origin}: it has no admin RPC (`xmlrpc`)")
    token = None if url.password is None else unquote(url.password)
    return Node(vrouter_id, cluster_id, host, port, token, url.scheme == "https", config_url)


def place(url: str, timeout_secs: float = TIMEOUT_SECS) -> Place:
    """The store and path that an ``etcd://`` URL names."""
    try:
        scheme, _, rest = url.partition("://")
        if scheme != "etcd" or "#" in rest:
            raise ValueError("must be etcd://HOST:PORT/PATH")
        rest, _, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        if "@" in authority:
            raise ValueError("takes no user and password; show a certificate by cert= and key=")
        endpoints = [endpoint(text) for text in authority.split(",")]
        tls = encryption(dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))))
    except ValueError as error:
        raise RuntimeError(f"{url}: {error}") from None
    except OSError as error:
        raise RuntimeError(f"{url}: its certificates cannot be read: {error}") from None
    return Place(Store(endpoints, tls, timeout_secs), unquote(slash + path).rstrip("/"))


def endpoint(text: str) -> Tuple[str, int]:
    """``HOST:PORT``; IPv6 addresses stand in brackets."""
    if text.startswith("["):
        host, bracket, port = text[1:].partition("]")
        is_one = bool(bracket) and (port == "" or port.startswith(":"))
        port = port[1:]
    else:
        host, _, port = text.partition(":")
        is_one = True
    if not (host and is_one and (port == "" or port.isdecimal())):
        raise ValueError(f"{text!r} is no HOST:PORT; an IPv6 address stands in brackets")
    number = int(port or STORE_PORT)
    if not 0 < number < 65536:
        raise ValueError(f"{text!r} has no port from 1 to 65535")
    return host, number


def encryption(options: Dict[str, str]) -> Optional[ssl.SSLContext]:
    """TLS with the files of a URL; ``None``: it names none."""
    unknown: List[str] = sorted(set(options) - {"cacert", "cert", "key"})
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not known; there are cacert, cert and key")
    if not options:
        return None
    if "cacert" not in options or ("cert" in options) != ("key" in options):
        raise ValueError("cert and key go together, and need cacert")
    context = ssl.create_default_context(cafile=options["cacert"])
    if "cert" in options:
        context.load_cert_chain(options["cert"], options["key"])
    return context


def document(content: bytes, origin: str) -> Dict[str, Any]:
    """A JSON object."""
    try:
        read = json.loads(content)
    except ValueError as error:
        raise RuntimeError(f"{origin}: {error}") from None
    if not isinstance(read, dict):
        raise RuntimeError(f"{origin}: not a JSON object")
    return read


def named(described: Dict[str, Any], key: str) -> str:
    """A text in a JSON object; empty: absent."""
    value = described.get(key)
    return value if isinstance(value, str) else ""
