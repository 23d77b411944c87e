"""A node that speaks TLS and wants a token: who is let in, and what the others are told.

Certificates are in the folder ``OVS_CERTIFICATES``: ``authority`` signed the node's, ``stranger`` did not.
"""

import http.client
import os
import ssl
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, Optional

from volumedriver.storagerouter.storagerouterclient import (
    ClusterContact,
    ClusterNotReachableException,
    LocalStorageRouterClient,
    ObjectNotFoundException,
    StorageRouterClient,
)

from .processes import OVS, PATIENCE, Node

CERTIFICATES = os.environ.get("OVS_CERTIFICATES", "")

#: What the node wants to see: nothing that fits a header by itself.
TOKEN = "open sesame: \u00fc%@"


@unittest.skipUnless(OVS and CERTIFICATES, "OVS_BINARY or OVS_CERTIFICATES is not set")
class AccessTest(unittest.TestCase):
    node: ClassVar[Node]
    contact: ClassVar[ClusterContact]

    @classmethod
    def setUpClass(cls) -> None:
        files = Path(CERTIFICATES) / "authority"
        xmlrpc = {
            "xmlrpc_tls_cert_file": str(files / "node.pem"),
            "xmlrpc_tls_key_file": str(files / "node.key"),
            "xmlrpc_token": TOKEN,
        }
        cls.node = Node()
        cls.addClassCleanup(cls.node.remove)
        cls.node.up("--volume", "one=16MiB", more={"xmlrpc": xmlrpc})
        cls.contact = cls.node.contact

    def trusting(self, authority: str) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=f"{CERTIFICATES}/{authority}/ca.pem")

    def clients(self, token: Optional[str], authority: Optional[str]) -> "Dict[str, Callable[[], StorageRouterClient]]":
        """Each way to a client."""
        tls = None if authority is None else self.trusting(authority)
        access: Dict[str, Any] = {"token": token, "tls": tls}

        def local(location: str) -> StorageRouterClient:
            return LocalStorageRouterClient(location, PATIENCE, **access)

        return {
            "by its directory": lambda: local(str(self.node.data)),
            "by its URL": lambda: local(self.node.config_url),
            "by its address": lambda: StorageRouterClient(self.node.cluster_id, [self.contact], PATIENCE, **access),
        }

    def told(self, kind: Any, token: Optional[str], authority: Optional[str], *parts: str) -> None:
        """Nobody is let in, and is told why."""
        for way, client in self.clients(token, authority).items():
            with self.subTest(way), self.assertRaises(kind) as caught:
                client().list_volumes()
            for part in parts:
                self.assertIn(part, str(caught.exception), way)
            self.assertNotIn(TOKEN, str(caught.exception))

    def test_who_has_both_is_let_in(self) -> None:
        self.assertTrue(self.node.endpoints["xmlrpc"].startswith("https://"))
        for way, make in self.clients(TOKEN, "authority").items():
            with self.subTest(way), make() as client:
                self.assertEqual(list(client), ["one"])
                self.assertEqual(client.info_volume("one").volume_size, 16 << 20)
                self.assertRaises(ObjectNotFoundException, client.info_volume, "gone")

    def test_what_one_client_makes_has_its_access(self) -> None:
        client = self.clients(TOKEN, "authority")["by its address"]()
        with client.make_locked_client("one") as locked:
            self.assertEqual(locked.list_volumes(), ["one"])

    def test_configuration_and_feedback(self) -> None:
        client = self.clients(TOKEN, "authority")["by its URL"]()
        assert isinstance(client, LocalStorageRouterClient)
        self.node.configure("nbd", {"nbd_max_connections": 77})
        applied = client.update_configuration(client.configuration_url)
        self.assertEqual([change["new_value"] for change in applied], ["77"])
        feedback = client.feedback(applied.feedback_id)
        assert feedback is not None
        self.assertEqual(feedback["outcome"], "applied")
        self.assertNotIn(TOKEN, client.get_running_configuration(True))

    def test_without_the_token(self) -> None:
        self.told(RuntimeError, None, "authority", "the token is missing or wrong; give token=", "401")

    def test_with_another_token(self) -> None:
        for token in (TOKEN + "x", TOKEN[:-1], "", "\u00fc"):
            self.told(RuntimeError, token, "authority", "the token is missing or wrong; give token=", "401")

    def test_with_somebody_elses_authority(self) -> None:
        parts = ("its certificate is not trusted", "give tls=", "failed to send XMLRPC request volumesList")
        self.told(ClusterNotReachableException, TOKEN, "stranger", *parts)

    def test_with_the_authorities_of_the_system(self) -> None:
        ways = self.clients(TOKEN, None)
        for way in ("by its directory", "by its URL"):
            with self.assertRaisesRegex(ClusterNotReachableException, "its certificate is not trusted.* give tls="):
                ways[way]().list_volumes()

    def test_without_tls(self) -> None:
        plain = self.clients(TOKEN, None)["by its address"]()
        with self.assertRaisesRegex(ClusterNotReachableException, "failed to send XMLRPC request volumesList"):
            plain.list_volumes()

    def test_a_header_cannot_be_smuggled_in(self) -> None:
        client = self.clients("x\r\nAuthorization: y", "authority")["by its address"]()
        self.assertRaisesRegex(RuntimeError, "401", client.list_volumes)

    def test_the_list_of_volumes(self) -> None:
        def listed(authority: str, token: str) -> "subprocess.CompletedProcess[str]":
            command = [sys.executable, "-m", "volumedriver", str(self.node.data)]
            command += ["--cacert", f"{CERTIFICATES}/{authority}/ca.pem"]
            environment = {**os.environ, "OVS_TOKEN": token}
            return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)

        done = listed("authority", TOKEN)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.splitlines()[1].split()[0], "one")
        for authority, token, code, part in (
            ("authority", "wrong", 1, "the token is missing or wrong"),
            ("stranger", TOKEN, 6, "its certificate is not trusted"),
            ("nobody", TOKEN, 2, "ca.pem: No such file"),
        ):
            done = listed(authority, token)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(part, done.stderr.splitlines()[-1])

    def test_the_port_answers_nobody_without_a_token(self) -> None:
        """Also what names no method, and what is no request at all."""
        connection = http.client.HTTPSConnection(
            self.contact.host, self.contact.port, timeout=PATIENCE, context=self.trusting("authority")
        )
        self.addCleanup(connection.close)
        connection.request("POST", "/RPC2", b"<methodCall/>", {"Content-Type": "text/xml"})
        answer = connection.getresponse()
        self.assertEqual(answer.status, 401)
        self.assertNotIn(b"methodResponse", answer.read())


if __name__ == "__main__":
    unittest.main()
