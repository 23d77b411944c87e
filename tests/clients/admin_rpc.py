"""The admin RPC as plain Python uses it.

    admin_rpc.py PART ENDPOINTS [MORE]

`ENDPOINTS` is the endpoints.json of a running node. Prints `ok` at the end; an exception is the first broken promise.
"""

import concurrent.futures
import json
import pathlib
import re
import ssl
import sys
import urllib.parse
import xmlrpc.client

LATER, NEVER = "comes with", "is not part of ovs:"


class Driver:
    """A driver of a vPool."""

    def __init__(self, file, **more):
        with open(file, encoding="utf-8") as content:
            self.endpoints = json.load(content)
        self.url = self.endpoints["xmlrpc"]
        self.id = self.endpoints["vrouter_id"]
        self.proxy = xmlrpc.client.ServerProxy(self.url, **more)
        self.cluster = {"vrouter_cluster_id": self.endpoints["vrouter_cluster_id"]}

    def __call__(self, method, **arguments):
        return getattr(self.proxy, method)({**self.cluster, **arguments})

    def address(self):
        """As a redirect names it."""
        parsed = urllib.parse.urlsplit(self.url)
        return {"xmlrpc_redirect_host": parsed.hostname, "xmlrpc_redirect_port": str(parsed.port)}

    def fault(self, method, *parts, **arguments):
        """A call that ends in a fault of code 1."""
        expect_fault(lambda: self(method, **arguments), 1, *parts)

    def error(self, code, method, **arguments):
        """A call that ends in an error."""
        result = self(method, **arguments)
        assert result["xmlrpc_error_code"] == code, result
        return result["xmlrpc_error_string"]


def expect_fault(call, code, *parts):
    try:
        result = call()
    except xmlrpc.client.Fault as fault:
        assert fault.faultCode == code, fault
        assert all(part in fault.faultString for part in parts), fault
        return
    raise AssertionError(f"no fault: {result!r}")


TEXT, NUMBER, BOOLEAN = str, int, bool


def has_form(value, form, place=""):
    """Whether a value is of a type; a dict of forms is a struct of exactly these members, a list one of any length."""
    if isinstance(form, dict):
        assert isinstance(value, dict) and value.keys() == form.keys(), (place, value, form)
        for name in form:
            has_form(value[name], form[name], f"{place}.{name}")
    elif isinstance(form, list):
        assert isinstance(value, list), (place, value)
        for item in value:
            has_form(item, form[0], f"{place}[]")
    elif callable(form) and not isinstance(form, type):
        form(value)
    else:
        assert type(value) is form, (place, value, form)


def decimal(value):
    assert isinstance(value, str) and value == str(int(value)), value


def dimensioned(value):
    assert isinstance(value, str) and value.endswith("B") and int(value[:-1]) >= 0, value


def empty(value):
    assert value in ("", {}), value


def wide(value):
    """A number of 64 bits."""
    assert type(value) is int or value == str(int(value)), value


def counter(buckets):
    form = {name: wide for name in ("events", "sum", "sqsum", "min", "max")}
    return {**form, "buckets": [NUMBER]} if buckets else form


def statistics(new):
    names = (
        "write_request_size write_request_usecs unaligned_write_request_size backend_write_request_usecs "
        "backend_write_request_size read_request_size read_request_usecs unaligned_read_request_size "
        "backend_read_request_size backend_read_request_usecs sync_request_usecs"
    )
    plain = (
        "sco_cache_hits sco_cache_misses cluster_cache_hits cluster_cache_misses metadata_store_hits "
        "metadata_store_misses stored" + (" partial_read_fast partial_read_slow" if new else "")
    )
    form = {name: NUMBER for name in plain.split()}
    form["performance_counters"] = {name: counter(new) for name in names.split()}
    return form


INFO = {
    "volume_id": TEXT, "_namespace_": TEXT, "parent_namespace": TEXT, "parent_snapshot_id": TEXT,
    "volume_size": NUMBER, "lba_size": NUMBER, "lba_count": NUMBER, "cluster_multiplier": NUMBER,
    "sco_multiplier": NUMBER, "failover_mode": TEXT, "failover_ip": TEXT, "failover_port": NUMBER,
    "halted": BOOLEAN, "footprint": NUMBER, "stored": NUMBER, "object_type": NUMBER, "parent_volume_id": TEXT,
    "vrouter_id": TEXT, "metadata_backend_config": empty, "owner_tag": NUMBER, "cluster_cache_handle": NUMBER,
}

PROBLEM = {"param_name": TEXT, "component_name": TEXT, "problem": TEXT}
CHANGE = {"component_name": TEXT, "parameter_name": TEXT, "old_value": TEXT, "new_value": TEXT}
NODE = {
    "vrouter_id": TEXT, "message_host": TEXT, "message_port": NUMBER, "xmlrpc_host": TEXT, "xmlrpc_port": NUMBER,
    "failovercache_host": TEXT, "failovercache_port": NUMBER,
}


def methods(file, methods_file):
    """Every method, with its form. The volume `one` is there and halted nowhere."""
    driver = Driver(file)
    config = driver.endpoints["config"]
    one, id = {"volume_id": "one"}, driver.endpoints["vrouter_id"]
    destroyed = {"delete_local_data": "true", "force": "false", "delete_global_metadata": "true"}
    forms = [
        ("volumeCreate", {"target_path": "/two.raw", "volume_size": "1MiB"}, {"volume_id": TEXT}),
        ("volumeCreate", {"target_path": "three", "volume_size": "1048576", "vrouter_id": id}, {"volume_id": TEXT}),
        ("volumesList", {}, [TEXT]),
        ("volumesList", {"vrouter_id": id}, [TEXT]),
        ("volumesListHalted", {"vrouter_id": id}, [TEXT]),
        ("volumesListByPath", {}, [TEXT]),
        ("volumeInfo", one, INFO),
        ("volumeInfo", {**one, "redirect_fenced": "false"}, INFO),
        ("resizeObject", {"volume_id": "two", "volume_size": "2 MiB"}, empty),
        ("unlink", {"target_path": "/two"}, empty),
        ("getVolumeId", {"target_path": "/one"}, {"volume_id": TEXT}),
        ("getObjectId", {"target_path": "/one"}, {"object_id": TEXT}),
        ("volumePotential", {"sco_multiplier": "1024"}, {"volume_potential": decimal}),
        ("volumesOverview", {}, {name: {"state": TEXT, "nspace": TEXT} for name in ("one", "three")}),
        ("volumeDestroy", {"volume_id": "three", **destroyed}, empty),
        ("getSCOMultiplier", one, {"sco_multiplier": decimal}),
        ("getTLogMultiplier", one, {}),
        ("getSCOCacheMaxNonDisposableFactor", one, {}),
        ("getMetaDataCacheCapacity", one, {}),
        ("setMetaDataCacheCapacity", {**one, "metadata_cache_capacity": "100"}, empty),
        ("getMetaDataCacheCapacity", one, {"metadata_cache_capacity": decimal}),
        ("setMetaDataCacheCapacity", one, empty),
        ("getMetaDataCacheCapacity", one, {}),
        ("setSyncIgnore", {**one, "number_of_syncs_to_ignore": "0", "maximum_time_to_ignore_syncs_in_seconds": "0"},
         empty),
        ("getSyncIgnore", one,
         {"number_of_syncs_to_ignore": decimal, "maximum_time_to_ignore_syncs_in_seconds": decimal}),
        ("volumePerformanceCountersV3", {**one, "reset": "true"}, statistics(True)),
        ("volumePerformanceCounters", one, statistics(False)),
        ("volumeDriverPerformanceCountersV3", {"vrouter_id": id}, statistics(True)),
        ("volumeDriverPerformanceCounters", {"reset": "True"}, statistics(False)),
        ("ListClientConnections", {}, [{"object_id": TEXT, "ip": TEXT, "port": NUMBER}]),
        ("scoCacheInfo", {}, [{"path": TEXT, "max_size": dimensioned, "free": decimal, "used": decimal,
                               "choking": BOOLEAN, "offlined": BOOLEAN}]),
        ("dataStoreWriteUsed", one, {"data_store_write_used": decimal}),
        ("dataStoreReadUsed", one, {"data_store_read_used": decimal}),
        ("getFailoverMode", one, TEXT),
        ("getVolumeDriverState", {}, {"volumedriver_readonly": BOOLEAN}),
        ("mallocInfo", {}, TEXT),
        ("revision", {}, TEXT),
        ("getNodesStatusMap", {}, {id: {"config": NODE, "state": NUMBER}}),
        ("updateClusterNodeConfigs", {"vrouter_id": ""}, empty),
        ("persistConfigurationToString", {"show_defaults": "true"},
         {"configuration": json.loads, "configuration_url": TEXT}),
        ("updateConfiguration", {"configuration_path": config},
         {"updates": [CHANGE], "no_updates": [CHANGE], "feedback_id": TEXT, "revision": NUMBER}),
        ("checkConfiguration", {"configuration_path": config}, {"success": BOOLEAN, "problems": [PROBLEM]}),
        ("setGeneralLoggingLevel", {"log_filter_level": "info"}, empty),
        ("getGeneralLoggingLevel", {}, TEXT),
        ("addLoggingFilter", {"log_filter_name": "cfg_client", "log_filter_level": "warning"}, empty),
        ("showLoggingFilters", {}, [{"log_filter_name": TEXT, "log_filter_level": TEXT}]),
        ("removeLoggingFilter", {"log_filter_name": "cfg_client"}, empty),
        ("removeAllLoggingFilters", {}, empty),
    ]
    called = set()
    for method, arguments, form in forms:
        has_form(driver(method, **arguments), form, method)
        called.add(method)
    known = pathlib.Path(methods_file).read_text(encoding="utf-8").split()
    assert sorted(called.difference(known)) == []
    # All others say when they come.
    for method in sorted(set(known) - called):
        said = driver.error(2, method, **one)
        assert said.startswith(f"invalid operation: {method} ") and (LATER in said or NEVER in said), said
        standing = driver.proxy.system.methodHelp(method)
        assert ("[later: " in standing) == (LATER in said) and ("[never: " in standing) == (NEVER in said)
    about = ["system.listMethods", "system.methodHelp", "system.multicall"]
    assert sorted(driver.proxy.system.listMethods()) == sorted(known + about)
    assert all(driver.proxy.system.methodHelp(method) for method in known + about)
    values(driver)


def values(driver):
    """What results say, where that is known."""
    assert driver("volumesList") == ["one"] and driver("volumesListByPath") == ["/one"]
    info = driver("volumeInfo", volume_id="one")
    assert (info["volume_size"], info["lba_size"] * info["lba_count"], info["vrouter_id"]) == (8 << 20, 8 << 20, driver.id)
    assert info["sco_multiplier"] * info["lba_size"] * info["cluster_multiplier"] == 1 << 20
    assert driver("getVolumeId", target_path="/no/path") == {"volume_id": ""}
    nodes = driver("getNodesStatusMap")
    assert nodes[driver.id]["state"] == 1
    assert nodes[driver.id]["config"]["xmlrpc_port"] == int(driver.address()["xmlrpc_redirect_port"])
    shown = json.loads(driver("persistConfigurationToString")["configuration"])
    assert shown["scocache"]["segment_size"] == "1MiB" and "trigger_gap" not in shown["scocache"], shown
    for level in ("trace", "debug", "periodic", "info", "warning", "error", "fatal", "notice"):
        driver("setGeneralLoggingLevel", log_filter_level=level)
        assert driver("getGeneralLoggingLevel") == level
    driver("setGeneralLoggingLevel", log_filter_level="info")
    driver("addLoggingFilter", log_filter_name="volumedriver", log_filter_level="debug")
    assert driver("showLoggingFilters") == [{"log_filter_name": "volumedriver", "log_filter_level": "debug"}]
    driver("removeAllLoggingFilters")
    assert driver("showLoggingFilters") == []


def counted(file, port):
    """The volume `one` got 16 writes of 4 KiB, 8 reads of the same and a flush, and has that client and one more."""
    driver = Driver(file)
    clients = driver("ListClientConnections", vrouter_id=driver.id)
    assert [(client["object_id"], client["ip"]) for client in clients] == [("one", "127.0.0.1")] * 2, clients
    assert sorted(client["port"] for client in clients) == [0, int(port)], clients
    counters = driver("volumePerformanceCountersV3", volume_id="one", reset="true")["performance_counters"]
    write, read = counters["write_request_size"], counters["read_request_size"]
    assert (write["events"], write["sum"], read["events"], read["sum"]) == (16, 65536, 8, 32768), counters
    assert counters["sync_request_usecs"]["events"] == 1, counters
    for counter, squares, buckets in ((write, 16 << 24, [0, 16, 0, 0, 0, 0, 0, 0]), (read, 8 << 24, [0, 8, 0, 0, 0, 0, 0, 0])):
        assert (counter["min"], counter["max"], counter["sqsum"]) == (4096, 4096, squares), counter
        assert counter["buckets"] == buckets, counter
    for name, events in (("write_request_usecs", 16), ("read_request_usecs", 8), ("sync_request_usecs", 1)):
        times = counters[name]
        assert times["events"] == events and times["min"] <= times["max"] <= times["sum"], (name, times)
        assert times["max"] ** 2 <= times["sqsum"] <= times["sum"] * times["max"], (name, times)
        assert times["max"] >= 1000000 or sum(times["buckets"]) == events, (name, times)
    assert counters["write_request_usecs"]["sum"] > 0, "no write reaches a disk in the turn that got it"
    assert counters["unaligned_write_request_size"]["events"] == 0, counters
    assert counters["backend_write_request_usecs"]["min"] == "18446744073709551615", counters
    both = driver("volumeDriverPerformanceCounters")["performance_counters"]
    assert both["write_request_size"]["events"] == 0, "a reset begins anew"
    assert both["write_request_usecs"]["max"] == 0 and "buckets" not in both["write_request_usecs"], both


def own_settings(file, flushes, seconds, pages):
    """The volume `one` has these settings of its own; `two` has none."""
    driver = Driver(file)
    ignore = {"number_of_syncs_to_ignore": flushes, "maximum_time_to_ignore_syncs_in_seconds": seconds}
    assert driver("getSyncIgnore", volume_id="one") == ignore
    assert driver("getMetaDataCacheCapacity", volume_id="one") == {"metadata_cache_capacity": pages}
    off = {"number_of_syncs_to_ignore": "0", "maximum_time_to_ignore_syncs_in_seconds": "0"}
    assert driver("getSyncIgnore", volume_id="two") == off and driver("getMetaDataCacheCapacity", volume_id="two") == {}


def set_own(file, flushes, seconds, pages):
    """Gives the volume `one` these settings, after some that are none."""
    driver = Driver(file)
    one, most = {"volume_id": "one"}, {"maximum_time_to_ignore_syncs_in_seconds": "1"}
    driver.fault("setSyncIgnore", "Argument number_of_syncs_to_ignore not present", **one, **most)
    driver.fault("setSyncIgnore", "Argument maximum_time_to_ignore_syncs_in_seconds not present", **one,
                 number_of_syncs_to_ignore="1")
    for odd in ("", "-1", "many", "1.5", "18446744073709551616"):
        driver.fault("setSyncIgnore", "number_of_syncs_to_ignore is no whole number", **one, **most,
                     number_of_syncs_to_ignore=odd)
    driver.fault("setSyncIgnore", "number_of_syncs_to_ignore is 4294967296, more than 4294967295", **one, **most,
                 number_of_syncs_to_ignore="4294967296")
    driver.fault("setSyncIgnore", "is not a string", **one, **most, number_of_syncs_to_ignore=[1])
    driver.fault("setMetaDataCacheCapacity", "1 or more", **one, metadata_cache_capacity="0")
    driver.fault("setMetaDataCacheCapacity", "no whole number", **one, metadata_cache_capacity="all")
    driver.fault("setMetaDataCacheCapacity", "more than 4294967295", **one, metadata_cache_capacity="99999999999")
    driver.error(1, "setSyncIgnore", volume_id="gone", number_of_syncs_to_ignore="1", **most)
    driver.error(1, "setMetaDataCacheCapacity", volume_id="gone")
    assert driver("setSyncIgnore", **one, number_of_syncs_to_ignore=flushes,
                  maximum_time_to_ignore_syncs_in_seconds=seconds) == ""
    assert driver("setMetaDataCacheCapacity", **one, metadata_cache_capacity=pages) == ""
    own_settings(file, flushes, seconds, pages)


def errors(file):
    """Errors, faults, and arguments that are none. There is a volume `one`."""
    driver = Driver(file)
    assert "one exists already" in driver.error(4, "volumeCreate", target_path="/one", volume_size="1MiB")
    assert "no volume gone" in driver.error(1, "volumeInfo", volume_id="gone")
    for odd in ("", "a/b", "../x", "-", "x" * 200, "\u00fc\u0000"):
        if "\0" not in odd:
            driver.error(1, "volumeInfo", volume_id=odd)
    driver.error(1, "snapshotsList", volume_id="gone")
    driver.error(2, "volumeCreate", target_path="/new", volume_size="1MiB",
                 metadata_backend_config={"type": "MDS", "node_configs": []})
    driver.error(2, "volumeDestroy", volume_id="one", delete_local_data="false", force="true",
                 delete_global_metadata="true")
    driver.fault("volumeInfo", "volumeInfo Caught XmlRpcException: Argument volume_id not present")
    driver.fault("volumeInfo", "Argument volume_id is not a string", volume_id=7)
    driver.fault("volumeInfo", "Argument volume_id is not a string", volume_id=["one"])
    driver.fault("volumeCreate", "no size", target_path="/new", volume_size="10 parrots")
    driver.fault("volumeCreate", "needs a size", target_path="/new", volume_size="0B")
    driver.fault("volumeCreate", "max_volume_size", target_path="/new", volume_size="1000000TiB")
    driver.fault("volumeCreate", "a path is /NAME", target_path="/a/b", volume_size="1MiB")
    driver.fault("volumeDestroy", "is not a string", volume_id="one", delete_local_data=True, force="true",
                 delete_global_metadata="true")
    driver.fault("volumeDestroy", "neither true nor false", volume_id="one", delete_local_data="yes", force="true",
                 delete_global_metadata="true")
    driver.fault("resizeObject", "cannot shrink", volume_id="one", volume_size="1MiB")
    driver.fault("unlink", "nothing at /gone", target_path="/gone")
    driver.fault("volumesList", "Unknown cluster node nobody", vrouter_id="nobody")
    driver.fault("setGeneralLoggingLevel", "bad log level", log_filter_level="loud")
    driver.fault("addLoggingFilter", "is no part", log_filter_name="a=b,c", log_filter_level="info")
    driver.fault("volumesList", "cluster id mismatch: other", vrouter_cluster_id="other")
    proxy = driver.proxy
    expect_fault(lambda: proxy.volumesList({}), 1, "Argument vrouter_cluster_id not present")
    expect_fault(lambda: proxy.volumesList(), 1, "one struct is the argument, not 0 values")
    expect_fault(lambda: proxy.volumesList("a"), 1, "must be a struct")
    expect_fault(lambda: proxy.volumesList(driver.cluster, driver.cluster), 1, "not 2 values")
    expect_fault(lambda: proxy.addSCOCacheMountPoint(driver.cluster), -1, "addSCOCacheMountPoint: unknown method name")
    expect_fault(lambda: proxy.system.stop(), -1, "unknown method name")
    expect_fault(lambda: proxy.system.methodHelp("nothing"), -1, "Unknown method name")
    multicall = xmlrpc.client.MultiCall(proxy)
    multicall.volumesList(driver.cluster)
    multicall.nothing()
    multicall.volumeInfo({**driver.cluster, "volume_id": "gone"})
    multicall.system.multicall([])
    results = multicall()
    assert results[0] == ["one"] and results[2]["xmlrpc_error_code"] == 1
    expect_fault(lambda: results[1], -1, "nothing: unknown")
    expect_fault(lambda: results[3], -1, "Recursive")
    expect_fault(lambda: proxy.system.multicall([{"methodName": "x", "params": []}] * 1001), -1, "more than 1000")
    assert driver("volumesList") == ["one"], "nothing of all that did anything"


#: Values of arguments, where they are looked at before the volume is.
GIVEN = {
    "volume_size": "2MiB", "sco_multiplier": "1024", "tlog_multiplier": "4", "max_non_disposable_factor": "1.5",
    "metadata_cache_capacity": "8", "number_of_syncs_to_ignore": "1", "delete_local_data": "true", "force": "false",
    "maximum_time_to_ignore_syncs_in_seconds": "2", "cluster_cache_behaviour": "NoCache", "cluster_cache_limit": "8",
    "cluster_cache_mode": "LocationBased", "reset": "false", "redirect_fenced": "true", "vrouter_id": "",
}


def every_redirect(page_file, here, there, volume):
    """Each method that the page calls redirected leads to the owner of a volume, or to the driver that is named."""
    rows = re.findall(r"^\| `(\w+)` \| yes \|([^|]*)\|(.*)\|$", pathlib.Path(page_file).read_text(encoding="utf-8"), re.M)
    led = 0
    for method, standing, told in rows:
        names = re.findall(r"`(\w+)`", told.split("; gives")[0].split("`metadata_backend_config` is refused")[0])
        arguments = {name: GIVEN.get(name, "x") for name in names}
        if "volume_id" in names:
            # `migrateVolume` names the driver that is to have it, which comes first.
            arguments["vrouter_id"] = ""
            assert here(method, **{**arguments, "volume_id": volume}) == there.address(), method
            assert "no volume gone" in here.error(1, method, **{**arguments, "volume_id": "gone"}), method
            if standing.strip() == "here":
                here.fault(method, "Argument volume_id not present", **{k: v for k, v in arguments.items() if k != "volume_id"})
            led += 1
        if "vrouter_id" in names:
            assert here(method, **{**arguments, "vrouter_id": there.id}) == there.address(), method
            here.fault(method, "Unknown cluster node nobody", **{**arguments, "vrouter_id": "nobody"})
            led += 1
    assert led > 45, led


def redirects(first_file, second_file, page_file):
    """Two drivers. `mine` is the first one's, `yours` the second one's, `ghost` the first one's and nowhere, `lost` of a
    driver that nobody knows."""
    first, second = Driver(first_file), Driver(second_file)
    for here, there, volume in ((first, second, "yours"), (second, first, "mine")):
        for method in ("volumeInfo", "getSCOMultiplier", "volumePerformanceCountersV3", "snapshotsList", "getSyncIgnore"):
            assert here(method, volume_id=volume) == there.address(), method
        assert here("resizeObject", volume_id=volume, volume_size="2MiB") == there.address()
        assert here("setMetaDataCacheCapacity", volume_id=volume) == there.address()
        assert here("setSyncIgnore", volume_id=volume, number_of_syncs_to_ignore="1",
                    maximum_time_to_ignore_syncs_in_seconds="1") == there.address()
        assert here("unlink", target_path=f"/{volume}") == there.address()
        assert there("volumeInfo", volume_id=volume)["vrouter_id"] == there.id
        assert here("volumesList", vrouter_id=there.id) == there.address()
        assert there("volumesList", vrouter_id=there.id) == [volume]
        assert here("volumeCreate", target_path="/more", volume_size="1MiB", vrouter_id=there.id) == there.address()
        assert "belongs to the driver" in here.error(4, "volumeCreate", target_path=volume, volume_size="1MiB")
        assert here("getVolumeId", target_path=volume) == {"volume_id": volume}
        every_redirect(page_file, here, there, volume)
    assert first("volumesList") == second("volumesList") == ["ghost", "lost", "mine", "yours"]
    # What does not run where it belongs is redirected there for ever.
    assert first("volumeInfo", volume_id="ghost") == first.address()
    assert second("volumeInfo", volume_id="ghost") == first.address()
    first.fault("volumeInfo", "belongs to nobody, whose address is not known", volume_id="lost")
    nodes = second("getNodesStatusMap")
    assert {id: node["state"] for id, node in nodes.items()} == {first.id: 1, second.id: 1}


def halted(file, served, gone):
    """One volume is served, and one is halted."""
    driver = Driver(file)
    assert driver("volumesListHalted") == [gone] and driver("volumesList", vrouter_id=driver.id) == [served]
    info = driver("volumeInfo", volume_id=gone)
    assert info["halted"] is True and driver("volumeInfo", volume_id=served)["halted"] is False
    assert "is halted" in driver.error(10, "volumePerformanceCountersV3", volume_id=gone)
    assert "is halted" in driver.error(10, "resizeObject", volume_id=gone, volume_size="2MiB")
    assert driver("volumesOverview")[gone]["state"] == "Halted"
    assert driver("volumeDriverPerformanceCountersV3")["stored"] >= 0


def offline(first_file, gone):
    """Whether a driver is seen to have gone."""
    nodes = Driver(first_file)("getNodesStatusMap")
    print(nodes[gone]["state"])


def update(file, path):
    """One updateConfiguration; prints the result."""
    print(json.dumps(Driver(file)("updateConfiguration", configuration_path=path)))


def check(file, path):
    """One checkConfiguration; prints the result."""
    print(json.dumps(Driver(file)("checkConfiguration", configuration_path=path)))


def crowd(file, folder, first):
    """Twenty at once, each with its own document of numbers from `first` on; each hears of its own change and of no other."""
    def one(number):
        path = pathlib.Path(folder, f"{number}.json")
        path.write_text(json.dumps({"nbd": {"nbd_max_connections": number}}), encoding="utf-8")
        return number, Driver(file)("updateConfiguration", configuration_path=str(path))

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        results = list(pool.map(one, range(int(first), int(first) + 20)))
    for number, result in results:
        assert [change["new_value"] for change in result["updates"]] == [str(number)], (number, result)
    assert len({result["feedback_id"] for _, result in results}) == 20
    in_order = [result["updates"][0] for _, result in sorted(results, key=lambda item: item[1]["revision"])]
    for before, after in zip(in_order, in_order[1:]):
        assert before["new_value"] == after["old_value"], in_order


def tls(file, ca, token):
    """Under TLS with a token."""
    context = ssl.create_default_context(cafile=ca)
    driver = Driver(file, context=context, headers=[("Authorization", f"Bearer {token}")])
    assert driver.url.startswith("https://") and driver("volumesList") == ["one"]
    parsed = urllib.parse.urlsplit(driver.url)
    basic = xmlrpc.client.ServerProxy(f"https://ovs:{token}@{parsed.netloc}/RPC2", context=context)
    assert basic.volumesList(driver.cluster) == ["one"]
    for headers in ([], [("Authorization", "Bearer wrong")], [("Authorization", f"Digest {token}")]):
        try:
            Driver(file, context=context, headers=headers)("volumesList")
            raise AssertionError("let in")
        except xmlrpc.client.ProtocolError as error:
            assert error.errcode == 401, error
    try:
        xmlrpc.client.ServerProxy(f"http://{parsed.netloc}/RPC2").volumesList(driver.cluster)
        raise AssertionError("let in")
    except (OSError, xmlrpc.client.ProtocolError, EOFError) as error:
        assert not isinstance(error, xmlrpc.client.Fault)
    except Exception as error:  # http.client raises its own kinds for what is no HTTP
        assert "http.client" in type(error).__module__, error
    shown = driver("persistConfigurationToString")["configuration"]
    assert token not in shown and "***" in shown, shown


def page(file, page_file):
    """The commands of the page, with the directory put in."""
    text = pathlib.Path(page_file).read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    lines = code.replace("DIR/endpoints.json", file).splitlines()
    place = {}
    for line in lines:
        call, _, comment = line.partition("  #")
        if not comment:
            exec(call, place)  # the page's own lines
            continue
        got = repr(eval(call, place))
        wanted = comment.strip()
        start = wanted.split("...")[0].rstrip()
        assert got.startswith(start), (call, got, wanted)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
    print("ok")
