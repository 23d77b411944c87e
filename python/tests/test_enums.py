"""Enumerations look to programs as those of the original's binding did."""

import pickle
import unittest

from volumedriver.storagerouter import storagerouterclient as module
from volumedriver.storagerouter.storagerouterclient import DTLMode, ObjectType, Severity

#: Names and numbers, in the order of section 2.3 of the facts about the original.
EXPECTED = {
    "ObjectType": {"BASE": 1, "TEMPLATE": 2, "FILE": 0},
    "ClusterNodeState": {"OFFLINE": 0, "ONLINE": 1},
    "DTLConfigMode": {"AUTOMATIC": 1, "MANUAL": 2},
    "DTLMode": {"ASYNCHRONOUS": 1, "SYNCHRONOUS": 2},
    "ReadCacheBehaviour": {"CACHE_ON_WRITE": 1, "CACHE_ON_READ": 2, "NO_CACHE": 3},
    "ReadCacheMode": {"CONTENT_BASED": 1, "LOCATION_BASED": 2},
    "Role": {"Master": 0, "Slave": 1},
    "ApplyRelocationsToSlaves": {"F": 0, "T": 1},
    "Severity": {
        "trace": 0,
        "debug": 1,
        "periodic": 2,
        "info": 3,
        "warning": 4,
        "error": 5,
        "fatal": 6,
        "notification": 7,
    },
    "LogRotationType": {"F": 0, "T": 1},
    "DirectoryEntryType": {"DIRECTORY": 0, "VOLUME": 1, "FILE": 2},
}


class Enums(unittest.TestCase):
    def test_names_and_numbers(self) -> None:
        for name, numbers in EXPECTED.items():
            kind = getattr(module, name)
            self.assertEqual({n: int(m) for n, m in kind.names.items()}, numbers)
            self.assertEqual({n: str(m) for n, m in kind.values.items()}, {v: k for k, v in numbers.items()})
            self.assertIs(type(kind.names), dict)
            self.assertIs(type(kind.values), dict)
            for member, number in numbers.items():
                found = getattr(kind, member)
                self.assertIs(type(found), kind)
                self.assertEqual(found, number)
                self.assertIs(found, kind.values[number])
                self.assertIs(found, kind(number))
                self.assertEqual((str(found), found.name, f"{found}"), (member, member, member))

    def test_members_are_numbers(self) -> None:
        self.assertTrue(issubclass(Severity, int))
        self.assertLess(Severity.info, Severity.error)
        self.assertEqual(Severity.info + 1, 4)
        self.assertEqual(f"{Severity.info:03d}", "003")
        self.assertEqual(f"{Severity.info:>6}", "  info")
        self.assertEqual({ObjectType.BASE: "v"}[ObjectType(1)], "v")

    def test_a_number_without_a_name_is_kept(self) -> None:
        odd = DTLMode(9)
        self.assertEqual((int(odd), odd.name, str(odd)), (9, None, "9"))
        self.assertTrue(repr(odd).endswith("DTLMode(9)"))
        self.assertTrue(repr(DTLMode.SYNCHRONOUS).endswith("DTLMode.SYNCHRONOUS"))

    def test_members_survive_pickling_as_themselves(self) -> None:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            self.assertIs(pickle.loads(pickle.dumps(Severity.fatal, protocol)), Severity.fatal)


if __name__ == "__main__":
    unittest.main()
