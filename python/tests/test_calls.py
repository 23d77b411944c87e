"""Whom a call asks, what it makes of answers, and how long it waits."""

import pickle
import time
import unittest
import xmlrpc.client
from typing import Any, Dict

from volumedriver.storagerouter import errors
from volumedriver.storagerouter.storagerouterclient import (
    ClusterContact,
    ClusterNotReachableException,
    ConfigurationUpdateException,
    MaxRedirectsExceededException,
    NodeNotReachableException,
    ServerFault,
    StorageRouterClient,
)

from .stub import Raw, Rude, Silent, Slow, Status, Stub, dead_contact


def no_volumes(_method: str, _struct: Dict[str, Any]) -> Any:
    return []


class Contacts(unittest.TestCase):
    """Which contact is asked."""

    def test_nobody_is_asked_by_the_constructor(self) -> None:
        StorageRouterClient("c", [dead_contact()])

    def test_no_contact_answers(self) -> None:
        client = StorageRouterClient("c", [dead_contact(), dead_contact()], 5)
        with self.assertRaises(ClusterNotReachableException) as caught:
            client.list_volumes()
        self.assertIn("failed to send XMLRPC request volumesList", str(caught.exception))

    def test_a_name_that_does_not_resolve_is_a_node_that_is_not_there(self) -> None:
        client = StorageRouterClient("c", [ClusterContact("no-such-host.invalid", 12345)], 20)
        self.assertRaises(ClusterNotReachableException, client.list_volumes)

    def test_without_contacts_the_cluster_is_not_reachable(self) -> None:
        self.assertRaises(ClusterNotReachableException, StorageRouterClient("c", []).list_volumes)

    def test_the_next_contact_is_asked_and_stays_first(self) -> None:
        with Stub(no_volumes) as node:
            dead = dead_contact()
            client = StorageRouterClient("c", [dead, node.contact], 5)
            self.assertEqual(client.list_volumes(), [])
            order = [port for _, port in client._caller.contacts()]
            self.assertEqual(order, [node.port, dead.port])
            self.assertEqual(client.list_volumes(), [])
            self.assertEqual(len(node.requests), 2)

    def test_an_answer_that_is_no_xml_rpc_is_a_node_that_is_not_there(self) -> None:
        broken = [
            Raw(b"hello"),
            Raw(b""),
            Raw(b"<methodResponse><params></params></methodResponse>"),
            Raw(
                b"<?xml version='1.0'?><methodResponse><params><param><value><int>x</int></value></param></params></methodResponse>"
            ),
            Status(500),
            Status(503),
        ]
        for content in broken:
            with self.subTest(content=content), Stub(lambda *_, c=content: c) as bad, Stub(no_volumes) as good:  # type: ignore[misc]
                client = StorageRouterClient("c", [bad.contact, good.contact], 5)
                self.assertEqual(client.list_volumes(), [])
                self.assertEqual((len(bad.requests), len(good.requests)), (1, 1))

    def test_a_connection_that_breaks_is_a_node_that_is_not_there(self) -> None:
        with Rude() as rude, Stub(no_volumes) as good:
            self.assertEqual(StorageRouterClient("c", [rude, good.contact], 5).list_volumes(), [])

    def test_a_node_that_is_silent_is_given_up_and_the_next_is_asked(self) -> None:
        with Silent() as silent, Stub(no_volumes) as good:
            client = StorageRouterClient("c", [silent, good.contact])
            begin = time.monotonic()
            self.assertEqual(client.list_volumes(req_timeout_secs=1), [])
            self.assertLess(time.monotonic() - begin, 15)
            self.assertGreaterEqual(time.monotonic() - begin, 0.9)

    def test_the_time_out_is_for_all_of_an_answer(self) -> None:
        with Slow() as slow:
            begin = time.monotonic()
            with self.assertRaises(ClusterNotReachableException) as caught:
                StorageRouterClient("c", [slow], 1).list_volumes()
            # The answer goes on for ever; a busy machine may notice late that the time is over.
            self.assertLess(time.monotonic() - begin, 15)
            self.assertIn("timed out", str(caught.exception))

    def test_the_time_out_of_the_client_is_for_calls_without_one(self) -> None:
        with Silent() as silent:
            client = StorageRouterClient("c", [silent], client_timeout_secs=1)
            self.assertEqual(client.client_timeout_secs(), 1)
            begin = time.monotonic()
            self.assertRaises(ClusterNotReachableException, client.list_volumes)
            self.assertLess(time.monotonic() - begin, 15)

    def test_a_refused_request_is_not_sent_to_others(self) -> None:
        for status, told in ((401, "token"), (404, "no admin RPC"), (413, "too long")):
            with Stub(lambda *_, s=status: Status(s)) as node, Stub(no_volumes) as other:  # type: ignore[misc]
                client = StorageRouterClient("c", [node.contact, other.contact], 5)
                with self.assertRaises(RuntimeError) as caught:
                    client.list_volumes()
                self.assertIn(told, str(caught.exception))
                self.assertEqual(other.requests, [])

    def test_a_token_is_shown(self) -> None:
        with Stub(no_volumes) as node:
            StorageRouterClient("c", [node.contact], 5, token="secret").list_volumes()
            self.assertEqual(node.headers[0]["Authorization"], "Basic b3ZzOnNlY3JldA==")
            StorageRouterClient("c", [node.contact], 5).list_volumes()
            self.assertNotIn("Authorization", node.headers[1])

    def test_a_closed_client_refuses_calls(self) -> None:
        with Stub(no_volumes) as node:
            with StorageRouterClient("c", [node.contact], 5) as client:
                self.assertEqual(list(client), [])
            with self.assertRaisesRegex(RuntimeError, "closed"):
                client.list_volumes()
            self.assertEqual(len(node.requests), 1)

    def test_a_locked_client_is_closed_by_itself(self) -> None:
        with Stub(no_volumes) as node:
            with StorageRouterClient("c", [node.contact], 5) as client:
                locked = client.make_locked_client("v")
            self.assertEqual(locked.list_volumes(), [])
            self.assertEqual(locked.client_timeout_secs(), 5)


class Redirects(unittest.TestCase):
    """Where a call is led."""

    def chain(self, length: int) -> Any:
        """Calls a node that leads to another one, and so on, ``length`` times."""
        left = [length]

        def answer(_method: str, _struct: Dict[str, Any]) -> Any:
            if left[0] == 0:
                return ["there"]
            left[0] -= 1
            return node.redirect()

        with Stub(answer) as node:
            try:
                return StorageRouterClient("c", [node.contact], 5).list_volumes()
            finally:
                self.requests = len(node.requests)

    def test_two_are_followed(self) -> None:
        self.assertEqual(self.chain(2), ["there"])
        self.assertEqual(self.requests, 3)

    def test_the_third_is_refused(self) -> None:
        self.assertRaises(MaxRedirectsExceededException, self.chain, 3)
        self.assertEqual(self.requests, 3)

    def test_the_limit_can_be_set(self) -> None:
        with Stub(lambda *_: node.redirect()) as node:
            client = StorageRouterClient("c", [node.contact], 5)
            client.max_redirects = 0
            self.assertRaises(MaxRedirectsExceededException, client.list_volumes)
            self.assertEqual(len(node.requests), 1)

    def test_the_same_request_goes_to_the_new_address(self) -> None:
        with Stub(no_volumes) as owner, Stub(lambda *_: owner.redirect()) as asked:
            StorageRouterClient("c", [asked.contact], 5).list_volumes("n")
            self.assertEqual(asked.requests, owner.requests)

    def test_a_dead_node_behind_a_redirect_is_not_replaced_by_a_contact(self) -> None:
        dead = dead_contact()
        there = {"xmlrpc_redirect_host": dead.host, "xmlrpc_redirect_port": str(dead.port)}
        with Stub(lambda *_: there) as asked, Stub(no_volumes) as other:
            client = StorageRouterClient("c", [asked.contact, other.contact], 5)
            with self.assertRaises(NodeNotReachableException) as caught:
                client.list_volumes()
            self.assertIn("failed to send XMLRPC request volumesList", str(caught.exception))
            self.assertEqual(other.requests, [])
            self.assertEqual(client._caller.contacts()[0][1], asked.port)

    def test_an_address_that_is_none_is_refused(self) -> None:
        for port in ("0", "70000", "x", ""):
            there = {"xmlrpc_redirect_host": "127.0.0.1", "xmlrpc_redirect_port": port}
            with Stub(lambda *_, t=there: t) as node:  # type: ignore[misc]
                client = StorageRouterClient("c", [node.contact], 5)
                self.assertRaisesRegex(RuntimeError, "no address", client.list_volumes)


class Errors(unittest.TestCase):
    """What is raised for an answer."""

    def raised(self, result: Any) -> BaseException:
        def answer(_method: str, _struct: Dict[str, Any]) -> Any:
            if isinstance(result, xmlrpc.client.Fault):
                raise result
            return result

        with Stub(answer) as node, self.assertRaises(BaseException) as caught:
            StorageRouterClient("c", [node.contact], 5).info_volume("v")
        return caught.exception

    def test_each_number_has_its_exception_with_the_servers_text(self) -> None:
        names = (
            "ObjectNotFound InvalidOperation SnapshotNotFound FileExists InsufficientResources "
            "PreviousSnapshotNotOnBackend ObjectStillHasChildren SnapshotNameAlreadyExists VolumeRestartInProgress "
            "VolumeHalted"
        ).split()
        self.assertEqual(len(errors.BY_CODE), len(names))
        for code, name in enumerate(names, 1):
            kind = getattr(errors, f"{name}Exception")
            raised = self.raised({"xmlrpc_error_code": code, "xmlrpc_error_string": "so it is"})
            self.assertIs(type(raised), kind)
            self.assertIs(kind.__base__, Exception)
            self.assertEqual(str(raised), "so it is")

    def test_an_unknown_number_is_a_runtime_error(self) -> None:
        raised = self.raised({"xmlrpc_error_code": 99, "xmlrpc_error_string": "new"})
        self.assertIs(type(raised), RuntimeError)
        self.assertIn("received unknown error code 99: new", str(raised))

    def test_a_fault_is_a_runtime_error_with_the_servers_text(self) -> None:
        raised = self.raised(xmlrpc.client.Fault(1, "volumeInfo Caught std::exception: why"))
        self.assertIsInstance(raised, RuntimeError)
        assert isinstance(raised, ServerFault)
        self.assertEqual((raised.method, raised.code), ("volumeInfo", 1))
        self.assertIn("got fault response volumeInfo", str(raised))
        self.assertIn("std::exception: why", str(raised))
        self.assertEqual(str(pickle.loads(pickle.dumps(raised))), str(raised))

    def test_a_rejected_update_carries_its_problems(self) -> None:
        problem = {"component_name": "scocache", "parameter_name": "trigger_gap", "value": "x", "problem": "no size"}
        raised = self.raised({"xmlrpc_error_code": 11, "xmlrpc_error_string": "no", "problems": [problem]})
        assert isinstance(raised, ConfigurationUpdateException)
        self.assertIsInstance(raised, RuntimeError)
        self.assertEqual(raised.problems[0], ("scocache", "trigger_gap", "no size", "x"))
        self.assertIn("error updating configuration", str(raised))
        self.assertIn("scocache/trigger_gap: no size", str(raised))
        again = pickle.loads(pickle.dumps(raised))
        self.assertEqual(again.problems, raised.problems)

    def test_a_result_of_the_wrong_shape_names_what_is_wrong(self) -> None:
        for result in ("text", [1], {"volume_size": "many"}, {"halted": "perhaps"}, {"object_type": 7}):
            raised = self.raised(result)
            self.assertIsInstance(raised, RuntimeError)
            self.assertIn("cannot be read", str(raised))

    def test_arguments_of_the_wrong_type_are_refused_before_anything_is_sent(self) -> None:
        with Stub(no_volumes) as node:
            client = StorageRouterClient("c", [node.contact], 5)
            wrong: Any = 10
            self.assertRaises(TypeError, client.create_volume, "/v", None, wrong)
            self.assertRaises(TypeError, client.info_volume, wrong)
            self.assertRaises(TypeError, client.truncate, "v", wrong)
            self.assertRaises(TypeError, client.create_volume, "/v", wrong, "1GiB")
            self.assertRaises(TypeError, client.set_readcache_mode, "v", wrong)
            self.assertRaises(TypeError, client.set_manual_dtl_config, "v", wrong)
            self.assertRaises(TypeError, client.info_volume, volume="v")
            self.assertRaises(OverflowError, client.set_sco_multiplier, "v", -1)
            self.assertRaises(ValueError, client.list_volumes, None, 0)
            self.assertEqual(node.requests, [])


if __name__ == "__main__":
    unittest.main()
