"""The pages about the package are true: the tour runs, the reference is what the docstrings say."""

import contextlib
import doctest
import importlib.util
import io
import json
import os
import subprocess
import sys
import unittest
from pathlib import Path
from typing import List

from volumedriver.__main__ import main

from .processes import OVS, Node
from .stub import Stub

PYTHON = Path(__file__).resolve().parents[1]


class Reference(unittest.TestCase):
    def test_the_reference_is_fresh(self) -> None:
        spec = importlib.util.spec_from_file_location("docs", PYTHON / "docs.py")
        assert spec is not None and spec.loader is not None
        docs = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(docs)
        stored = docs.PAGE.read_text()
        self.assertEqual(stored, docs.page(), "stale: python3 python/docs.py --write")


class Tour(unittest.TestCase):
    """With a node of its own."""

    node: Node

    @classmethod
    def setUpClass(cls) -> None:
        if not OVS:
            raise unittest.SkipTest("OVS_BINARY names no program")
        cls.node = Node()
        cls.addClassCleanup(cls.node.remove)
        cls.node.up()

    def test_the_tour_runs(self) -> None:
        text = (PYTHON / "README.md").read_text().replace("/tmp/demo", str(self.node.data)).replace("```", "")
        tour = doctest.DocTestParser().get_doctest(text, {}, "README.md", "README.md", 0)
        self.assertGreater(len(tour.examples), 20)
        told = io.StringIO()
        # One process, one example: what the first leaves is what the second finds.
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE)
        runner.run(tour, out=told.write)
        self.assertEqual(runner.failures, 0, told.getvalue())

    def listed(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "OVS_DATA_DIR": str(self.node.data)}
        command = [sys.executable, "-m", "volumedriver", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)

    def test_the_list_of_volumes(self) -> None:
        client = self.node.client()
        client.create_volume("/listed", None, "16MiB")
        self.addCleanup(client.unlink, "/listed")
        for location in ([], [str(self.node.data)], [self.node.config_url]):
            done = self.listed(*location)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            head, line = done.stdout.splitlines()
            self.assertEqual(head.split(), ["volume_id", "size", "stored", "type", "node", "state"])
            self.assertEqual(
                line.split()[:2] + line.split()[3:], ["listed", "16777216", "BASE", self.node.vrouter_id, "running"]
            )
        (row,) = json.loads(self.listed("--json", "--node", self.node.vrouter_id).stdout)
        self.assertEqual((row["volume_id"], row["size"]), ("listed", 16777216))

    def test_what_the_list_says_of_failures(self) -> None:
        done = self.listed("/no/such/directory")
        self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1))
        self.assertIn("no endpoints.json", done.stderr)
        self.assertEqual(self.listed("--timeout", "0").returncode, 2)


class Unreachable(unittest.TestCase):
    def test_a_node_that_is_gone(self) -> None:
        with Stub(lambda *_: []) as stub:
            url = f"http://127.0.0.1:{stub.port}/RPC2"
        node = Node()
        self.addCleanup(node.remove)
        node.data.mkdir()
        (node.data / "endpoints.json").write_text(json.dumps({"xmlrpc": url, "vpool_guid": "c"}))
        errors = io.StringIO()
        arguments: List[str] = [str(node.data), "--timeout", "5"]
        with contextlib.redirect_stderr(errors):
            self.assertEqual(main(arguments), 6)
        self.assertIn("failed to send XMLRPC request volumesList", errors.getvalue())


if __name__ == "__main__":
    unittest.main()
