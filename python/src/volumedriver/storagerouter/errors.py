"""What calls raise.

An answer that names a known condition becomes the exception of that name. Everything else is a ``RuntimeError``. All
carry the server's text.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Type


class MaxRedirectsExceededException(Exception):
    """Asked to go elsewhere more often than allowed: the object is registered on a node but does not run there."""


class ClusterNotReachableException(Exception):
    """None of the contacts answered."""


class NodeNotReachableException(Exception):
    """The node that another one named did not answer."""


class ObjectNotFoundException(Exception):
    """There is no such volume, template or file."""


class InvalidOperationException(Exception):
    """The object, or the value, does not allow this."""


class SnapshotNotFoundException(Exception):
    """The volume has no such snapshot."""


class FileExistsException(Exception):
    """The path of the new volume is taken."""


class InsufficientResourcesException(Exception):
    """The node has no room for this."""


class PreviousSnapshotNotOnBackendException(Exception):
    """The snapshot before is still on its way to the backend; try again later."""


class ObjectStillHasChildrenException(Exception):
    """Clones depend on it."""


class SnapshotNameAlreadyExistsException(Exception):
    """The volume has a snapshot of this name."""


class VolumeRestartInProgressException(Exception):
    """The volume is starting; try again soon."""


class VolumeHaltedException(Exception):
    """The volume stopped itself because it cannot keep its promises."""


class ServerFault(RuntimeError):
    """The server failed in a way that has no exception of its own, or refused the request.

    ``method`` is the name on the wire, ``code`` the server's number (1 from a method, -1 for what is unknown),
    ``text`` what it said.
    """

    def __init__(self, method: str, code: int, text: str) -> None:
        """Says which method failed, and the server's words."""
        super().__init__(f"got fault response {method}: {text}")
        self.method = method
        self.code = code
        self.text = text

    def __reduce__(self) -> Any:
        """Survives pickling: its message is not its argument."""
        return ServerFault, (self.method, self.code, self.text)


class ConfigurationProblem(NamedTuple):
    """Why a value was not accepted: section, parameter, reason, and the value as text (empty: there is none)."""

    component_name: str
    param_name: str
    problem: str
    value: str = ""

    def __str__(self) -> str:
        """Section, parameter and reason in one line."""
        place = "/".join(part for part in (self.component_name, self.param_name) if part)
        return f"{place}: {self.problem}" if place else self.problem


class ConfigurationUpdateException(RuntimeError):
    """An update of the configuration was rejected as a whole; nothing changed.

    ``problems`` is a list of :class:`ConfigurationProblem`.
    """

    def __init__(self, problems: List[ConfigurationProblem]) -> None:
        """Names every problem in the message."""
        super().__init__("error updating configuration: " + "; ".join(str(problem) for problem in problems))
        self.problems = problems

    def __reduce__(self) -> Any:
        """Survives pickling with its problems."""
        return ConfigurationUpdateException, (self.problems,)


#: The number of an update of the configuration that was rejected.
UPDATE_REJECTED = 11

#: Exceptions by the number in an error result.
BY_CODE: Dict[int, Type[Exception]] = {
    1: ObjectNotFoundException,
    2: InvalidOperationException,
    3: SnapshotNotFoundException,
    4: FileExistsException,
    5: InsufficientResourcesException,
    6: PreviousSnapshotNotOnBackendException,
    7: ObjectStillHasChildrenException,
    8: SnapshotNameAlreadyExistsException,
    9: VolumeRestartInProgressException,
    10: VolumeHaltedException,
}


def of_result(method: str, result: Mapping[str, Any]) -> Exception:
    """The exception for an error result; one of an unknown number is a ``RuntimeError``."""
    text = str(result.get("xmlrpc_error_string", ""))
    try:
        code = int(result["xmlrpc_error_code"])
    except (TypeError, ValueError):
        return RuntimeError(f"{method}: received an error whose code is no number: {text}")
    if code == UPDATE_REJECTED:
        return ConfigurationUpdateException(problems(result.get("problems"), text))
    kind = BY_CODE.get(code)
    if kind is None:
        return RuntimeError(f"{method}: received unknown error code {code}: {text}")
    return kind(text)


def problems(listed: Any, text: str) -> List[ConfigurationProblem]:
    """The problems of a rejected update; the error's text when it lists none."""
    found = [
        ConfigurationProblem(
            str(problem.get("component_name", "")),
            str(problem.get("param_name", problem.get("parameter_name", ""))),
            str(problem.get("problem", "")),
            str(problem.get("value", "")),
        )
        for problem in (listed if isinstance(listed, list) else [])
        if isinstance(problem, dict)
    ]
    return found or [ConfigurationProblem("", "", text)]
