"""Every class, method, argument name and default is the one that programs know."""

import ast
import importlib
import inspect
import pickle
import unittest
from typing import Any, List, Tuple

from volumedriver.storagerouter import storagerouterclient as module

from .expected_signatures import EVENTS, EXCEPTIONS, FRAMEWORK, LEFT_OUT, MEMBERS, METHODS

#: Stands for "no default".
NONE_GIVEN = object()

TIMEOUT = ("req_timeout_secs", None)


def expected(line: str) -> Tuple[str, List[Tuple[str, Any]]]:
    """Name and arguments of a line of the table."""
    # `t` stands for an argument with a default and may follow others that have one.
    line = line.replace(", t)", ", req_timeout_secs=None)").replace("(t)", "(req_timeout_secs=None)")
    line = line.replace(", t,", ", req_timeout_secs=None,")
    call = ast.parse(line.strip(), mode="eval").body
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    arguments: List[Tuple[str, Any]] = []
    for name in call.args:
        assert isinstance(name, ast.Name)
        arguments.append((name.id, NONE_GIVEN))
    for keyword in call.keywords:
        text = ast.unparse(keyword.value)
        arguments.append((str(keyword.arg), eval(text, dict(vars(module)))))  # the table is our own
    return call.func.id, arguments


def actual(function: Any) -> Tuple[List[Tuple[str, Any]], List[inspect.Parameter]]:
    """Arguments of a function, and those beyond the original's: they can only be given by name."""
    parameters = list(inspect.signature(function).parameters.values())
    plain = [p for p in parameters if p.name != "self" and p.kind is not p.KEYWORD_ONLY]
    more = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return [(p.name, NONE_GIVEN if p.default is p.empty else p.default) for p in plain], more


class Signatures(unittest.TestCase):
    def test_the_tables_are_complete(self) -> None:
        lines = {name: [line for line in text.splitlines() if line.strip()] for name, text in METHODS.items()}
        # 59 and 14 methods in the facts, which count pairs of getters and setters as they are written; constructors
        # and those of the parent are not among them.
        self.assertEqual(len(lines["StorageRouterClient"]) - 1, 59)
        self.assertEqual(len(lines["LocalStorageRouterClient"]) - 1, 14)
        self.assertEqual(len(lines["MDSClient"]) - 1, 11)
        self.assertEqual(len(MEMBERS["VolumeInfo"].split()), 22)
        self.assertEqual(len(EXCEPTIONS), 13)

    def test_every_method_has_its_arguments_and_defaults(self) -> None:
        for class_name, text in METHODS.items():
            kind = getattr(module, class_name)
            for line in filter(str.strip, text.splitlines()):
                name, arguments = expected(line)
                with self.subTest(f"{class_name}.{name}"):
                    function = inspect.getattr_static(kind, name, None)
                    self.assertIsNotNone(function, "is missing")
                    function = getattr(kind, name)
                    found, more = actual(function)
                    normal = [(n, list(v) if v == () else v) for n, v in found]
                    if name == "__exit__":
                        normal = [(n, NONE_GIVEN) for n, _ in normal]
                    self.assertEqual(normal, arguments)
                    for parameter in more:
                        self.assertIsNot(parameter.default, parameter.empty, f"{parameter.name} needs a default")

    def test_every_member_is_a_property_or_a_method(self) -> None:
        for class_name, text in MEMBERS.items():
            kind = getattr(module, class_name)
            for member in text.split():
                with self.subTest(f"{class_name}.{member}"):
                    found = inspect.getattr_static(kind, member.rstrip("()"))
                    is_static = isinstance(found, staticmethod)
                    if member.endswith("()"):
                        self.assertTrue(is_static or inspect.isfunction(found))
                        self.assertEqual(actual(getattr(kind, member[:-2]))[0], [])
                    else:
                        self.assertIs(type(found), property)

    def test_nothing_public_is_named_otherwise(self) -> None:
        for class_name, text in MEMBERS.items():
            if class_name in ("BuildInfo",):
                continue
            kind = getattr(module, class_name)
            public = {name for name in dir(kind) if not name.startswith("_")}
            self.assertEqual(public, {member.rstrip("()") for member in text.split()}, class_name)

    def test_exceptions(self) -> None:
        for name in EXCEPTIONS:
            kind = getattr(module, f"{name}Exception")
            self.assertIs(kind.__base__, Exception)
            self.assertEqual(str(kind("text")), "text")
        self.assertTrue(issubclass(module.ConfigurationUpdateException, RuntimeError))

    def test_what_the_framework_imports(self) -> None:
        for name in FRAMEWORK:
            self.assertTrue(hasattr(module, name), name)

    def test_the_module_names_what_it_has(self) -> None:
        self.assertEqual([name for name in module.__all__ if not hasattr(module, name)], [])
        public = {name for name, value in vars(module).items() if inspect.isclass(value)}
        self.assertEqual(public - set(module.__all__), set())
        self.assertTrue({"StorageRouterClient", *METHODS, *MEMBERS} <= set(module.__all__))

    def test_what_is_left_out_has_a_reason(self) -> None:
        for name, reason in LEFT_OUT.items():
            self.assertFalse(hasattr(module, name), name)
            self.assertTrue(reason)

    def test_events_have_names_and_nothing_else(self) -> None:
        tasks = {}
        for name, events in EVENTS.items():
            events_module = importlib.import_module(f"volumedriver.storagerouter.{name}")
            tasks.update({getattr(events_module, event): event for event in events.split()})
            with self.assertRaisesRegex(AttributeError, "nothing here publishes events over AMQP"):
                events_module.EventMessage
        self.assertEqual(len(tasks), 8)
        self.assertEqual({pickle.loads(pickle.dumps(event)): name for event, name in tasks.items()}, tasks)
        with self.assertRaisesRegex(ImportError, "Events_pb2: nothing here publishes events over AMQP"):
            importlib.import_module("volumedriver.storagerouter.Events_pb2")

    def test_a_local_client_is_a_client_and_so_is_a_locked_one(self) -> None:
        self.assertTrue(issubclass(module.LocalStorageRouterClient, module.StorageRouterClient))
        self.assertTrue(issubclass(module.LockedClient, module.StorageRouterClient))
        self.assertTrue(issubclass(module.MDSMetaDataBackendConfig, module.MetaDataBackendConfig))

    def test_a_fault_in_the_table_is_found(self) -> None:
        def migrate(self: Any, object_id: str, node_id: str, force_restart: bool = False) -> None:
            """With a default that the original has not."""

        _, arguments = expected("migrate(object_id, node_id, force_restart, t)")
        self.assertNotEqual(actual(migrate)[0], arguments)


if __name__ == "__main__":
    unittest.main()
