"""Values between Python and the wire, where nearly every scalar is a text.

Readers take a number as number or as decimal text, a truth value as boolean or as ``true``/``false``, and treat a key
that is absent and one that is empty alike. What cannot be read is a ``RuntimeError`` that names the key. Arguments of
the wrong type are a ``TypeError`` before anything is sent.
"""

from typing import Any, Dict, Mapping, Optional, Type, TypeVar

from .enums import Enumeration, Severity

E = TypeVar("E", bound=Enumeration)

#: Texts of truth values.
TRUE, FALSE = "true", "false"

#: Enumerations whose text on the wire is not their name.
WIRE_NAMES: Dict[str, Dict[str, str]] = {
    "DTLConfigMode": {"AUTOMATIC": "Automatic", "MANUAL": "Manual"},
    "DTLMode": {"ASYNCHRONOUS": "Asynchronous", "SYNCHRONOUS": "Synchronous"},
    "ReadCacheBehaviour": {
        "CACHE_ON_WRITE": "CacheOnWrite",
        "CACHE_ON_READ": "CacheOnRead",
        "NO_CACHE": "NoCache",
    },
    "ReadCacheMode": {"CONTENT_BASED": "ContentBased", "LOCATION_BASED": "LocationBased"},
    "Severity": {"notification": "notice"},
    "ObjectType": {"BASE": "Volume", "TEMPLATE": "Template", "FILE": "File"},
    "ClusterNodeState": {"ONLINE": "Online", "OFFLINE": "Offline"},
}


def text_argument(name: str, value: object) -> str:
    """A text as argument; ids, paths and sizes are texts only."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type(value).__name__}")
    return value


def number_argument(name: str, value: object) -> str:
    """A whole number of at least 0 as argument, as the wire wants it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 0:
        raise OverflowError(f"{name} must not be negative: {value}")
    return str(int(value))


def factor_argument(name: str, value: object) -> str:
    """A number as argument, as the wire wants it."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a float, not {type(value).__name__}")
    return repr(float(value))


def flag_argument(value: object) -> str:
    """A truth value as argument, as the wire wants it."""
    return TRUE if value else FALSE


def enum_argument(name: str, kind: Type[E], value: object) -> str:
    """A member of an enumeration as argument, as the wire wants it."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    bare = str(value)
    return WIRE_NAMES.get(kind.__name__, {}).get(bare, bare)


def bad(key: str, value: object) -> RuntimeError:
    """What a value is answered with that cannot be read."""
    return RuntimeError(f"the server sent {value!r} as {key}, which cannot be read")


def text(result: Mapping[str, Any], key: str, default: str = "") -> str:
    """A text; numbers are taken as texts too."""
    value = result.get(key)
    if value is None or value == {}:
        return default
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (str, int, float)):
        return str(value)
    raise bad(key, value)


def number(value: object, key: str) -> int:
    """A whole number."""
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            pass
    raise bad(key, value)


def numbered(result: Mapping[str, Any], key: str, default: int = 0) -> int:
    """A whole number in a struct."""
    found = maybe(result, key)
    return default if found is None else number(found, key)


def flag(value: object, key: str) -> bool:
    """A truth value."""
    if isinstance(value, (bool, int)):
        return bool(value)
    if isinstance(value, str) and value.lower() in (TRUE, FALSE, "1", "0"):
        return value.lower() in (TRUE, "1")
    raise bad(key, value)


def flagged(result: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """A truth value in a struct."""
    found = maybe(result, key)
    return default if found is None else flag(found, key)


def maybe(result: object, key: str) -> Any:
    """A value that may be absent: no struct, no key, an empty text or struct."""
    if not isinstance(result, Mapping):
        return None
    value = result.get(key)
    return None if value is None or value == "" or value == {} else value


def maybe_number(result: object, key: str) -> Optional[int]:
    """A whole number that may be absent."""
    value = maybe(result, key)
    return None if value is None else number(value, key)


def maybe_float(result: object, key: str) -> Optional[float]:
    """A number that may be absent."""
    value = maybe(result, key)
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise bad(key, value) from None


def enum(kind: Type[E], value: object, key: str) -> E:
    """A member of an enumeration, from its number or its text."""
    if isinstance(value, str):
        folded = value.replace("_", "").lower()
        texts = WIRE_NAMES.get(kind.__name__, {})
        for name, member in kind.names.items():
            spellings = {name, texts.get(name, name)}
            if folded in {spelling.replace("_", "").lower() for spelling in spellings}:
                return member  # type: ignore[no-any-return]
        if not value.isdigit():
            raise bad(key, value)
    found = kind.values.get(number(value, key))
    if found is None:
        raise bad(key, value)
    return found  # type: ignore[no-any-return]


def maybe_enum(kind: Type[E], result: object, key: str) -> Optional[E]:
    """A member of an enumeration that may be absent."""
    value = maybe(result, key)
    return None if value is None else enum(kind, value, key)


def severity(value: object, key: str = "log_filter_level") -> Severity:
    """A severity, from its text."""
    return enum(Severity, value, key)


def struct(value: object, what: str) -> Mapping[str, Any]:
    """A struct; anything else is an answer that cannot be read."""
    if not isinstance(value, Mapping):
        raise bad(what, value)
    return value


def array(value: object, what: str) -> "list[Any]":
    """An array; an empty text counts as an empty one."""
    if value == "":
        return []
    if not isinstance(value, list):
        raise bad(what, value)
    return value
