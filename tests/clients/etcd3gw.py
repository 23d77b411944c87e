"""What the library etcd3gw gets from the JSON gateway of a server of etcd's API with nothing in it.

Usage: etcd3gw.py HOST PORT. Exit code 1 and the reason on standard error at the first answer that is not etcd's.
"""

import sys

# This file has the library's name, and its folder comes first.
sys.path.pop(0)

import etcd3gw  # noqa: E402
from etcd3gw.exceptions import Etcd3Exception, WatchTimedOut  # noqa: E402

SECONDS = 30


def equal(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def member(client):
    status = client.status()
    equal(status["leader"], status["header"]["member_id"])
    equal(len(status["version"].split(".")), 3)
    # 64-bit numbers are texts in JSON.
    equal(type(status["dbSize"]), str)
    (only,) = client.members()
    equal(only["ID"], status["leader"])


def keys(client):
    equal(client.get("missing"), [])
    equal(client.put("k/a", "2"), True)
    equal(client.put(b"k/\xc3\xa4", b"\x00\xff"), True)
    equal(client.put("k/b", "1"), True)
    equal(client.put("k/b", ""), True)
    equal(client.put("other", "3"), True)
    equal(client.get("k/a"), [b"2"])
    # An empty value is left out of the JSON.
    equal(client.get("k/b"), [b""])
    ((value, about),) = client.get("k/b", metadata=True)
    equal((value, about["key"], about["version"]), (b"", b"k/b", "2"))
    created, written = int(about["create_revision"]), int(about["mod_revision"])
    equal(written, created + 1)
    equal(client.get("k/b", revision=created), [b"1"])
    equal([about["key"] for _, about in client.get_all()], [b"k/a", b"k/b", b"k/\xc3\xa4", b"other"])
    equal([value for value, _ in client.get_prefix("k/", sort_order="descend", sort_target="value")], [b"2", b"\x00\xff", b""])
    equal(client.get("k/", range_end="k0", limit=1), [b"2"])
    equal(client.get("k/", range_end="k0", keys_only=True), [b"", b"", b""])
    equal(client.get("k/", range_end="k0", count_only=True), [])
    equal(client.get("k/", range_end="k0", min_mod_revision=written), [b""])
    equal(client.get("k/a", serializable=True), [b"2"])
    try:
        client.get("k/a", revision=written + 1000)
        raise AssertionError("a revision of the future was read")
    except Etcd3Exception as error:
        equal("future revision" in error.detail_text, True)
    equal(client.delete("missing"), False)
    equal(client.delete("k/a", prev_kv=True), True)
    equal(client.delete_prefix("k/"), True)
    equal(client.get_prefix("k/"), [])
    equal(client.delete("other"), True)


def transactions(client):
    equal(client.create("t", "1"), True)
    equal(client.create("t", "2"), False)
    equal(client.replace("t", "2", "3"), False)
    equal(client.replace("t", "1", "4"), True)
    equal(client.get("t"), [b"4"])
    # "dA==" is "t", "NA==" is "4".
    done = client.transaction(
        {
            "compare": [{"key": "dA==", "target": "VERSION", "result": "GREATER", "version": "1"}],
            "success": [
                {"request_range": {"key": "dA=="}},
                {"request_put": {"key": "dA==", "value": "NQ==", "prev_kv": True}},
                {"request_txn": {"compare": [], "success": [{"request_delete_range": {"key": "dQ=="}}]}},
            ],
            "failure": [],
        }
    )
    equal(done["succeeded"], True)
    read, put, inner = done["responses"]
    equal(read["response_range"]["kvs"][0]["value"], "NA==")
    equal(put["response_put"]["prev_kv"]["value"], "NA==")
    equal(inner["response_txn"]["succeeded"], True)
    equal(client.get("t"), [b"5"])
    equal(client.delete("t"), True)


def leases(client):
    lease = client.lease(ttl=600)
    equal(client.put("l", "1", lease=lease), True)
    equal(590 <= lease.ttl() <= 600, True)
    equal(lease.keys(), [b"l"])
    equal(lease.refresh(), 600)
    equal(lease.revoke(), True)
    equal(client.get("l"), [])
    equal(lease.ttl(), -1)
    equal(lease.refresh(), -1)


def locks(client):
    first, second = client.lock("door", ttl=600), client.lock("door", ttl=600)
    equal(first.acquire(), True)
    equal((first.is_acquired(), second.acquire(), second.is_acquired()), (True, False, False))
    equal(first.refresh(), 600)
    equal(second.release(), False)
    equal(first.release(), True)
    with second:
        equal(second.is_acquired(), True)
    equal(second.is_acquired(), False)


def watches(client):
    begin = int(client.status()["header"]["revision"]) + 1
    for value in ("1", "2"):
        client.put("w/a", value)
    client.delete("w/a")
    client.put("w/b", "3")
    events, cancel = client.watch_prefix("w/", start_revision=begin, prev_kv=True)
    # A write is the kind that is left out of the JSON.
    seen = []
    for event in events:
        before = event.get("prev_kv", {}).get("value")
        seen.append((event.get("type", "PUT"), event["kv"]["key"], event["kv"].get("value"), before))
        if len(seen) == 4:
            break
    equal([(kind, key, value) for kind, key, value, _ in seen], [
        ("PUT", b"w/a", b"1"),
        ("PUT", b"w/a", b"2"),
        ("DELETE", b"w/a", None),
        ("PUT", b"w/b", b"3"),
    ])
    equal([before is None for *_, before in seen], [True, False, False, True])
    client.put("w/c", "4")
    equal(next(events)["kv"]["value"], b"4")
    cancel()
    event = client.watch_once("w/a", timeout=SECONDS, start_revision=begin, filters=["NOPUT"])
    equal(event["type"], "DELETE")
    try:
        client.watch_once("w/a", timeout=0.2)
        raise AssertionError("something happened")
    except WatchTimedOut:
        pass
    equal(client.delete_prefix("w/"), True)


def main():
    host, port = sys.argv[1:]
    client = etcd3gw.client(host=host, port=int(port), timeout=SECONDS)
    for part in (member, keys, transactions, leases, locks, watches):
        try:
            part(client)
        except Exception as error:
            raise AssertionError(f"{part.__name__}: {error!r}") from error
        print(part.__name__, flush=True)


if __name__ == "__main__":
    main()
