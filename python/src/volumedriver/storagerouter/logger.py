"""The log of this package, and what it was built from.

The names are the original's; lines go to Python's :mod:`logging` under ``volumedriver``. Importing the package turns
the log off; ``Logger.enableLogging()`` turns it on.
"""

import logging
import logging.handlers
from typing import Any, Dict, List, Optional

from volumedriver import __version__

from .enums import LogRotationType, Severity

#: Python's levels for severities.
LEVELS: Dict[str, int] = {
    "trace": 5,
    "debug": logging.DEBUG,
    "periodic": 15,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "notification": 60,
}

#: A file is rotated at this size in bytes, and so many older ones are kept.
ROTATE_AT, ROTATE_KEEP = 16 << 20, 4

ROOT = logging.getLogger("volumedriver")
ROOT.disabled = True
ROOT.addHandler(logging.NullHandler())


def level(severity: Severity) -> int:
    """Python's level for a severity."""
    if not isinstance(severity, Severity):
        raise TypeError(f"a severity must be a Severity, not {type(severity).__name__}")
    return LEVELS[str(severity)]


def child(name: str) -> logging.Logger:
    """Python's logger for one of ours."""
    return ROOT.getChild(name)


class Logger:
    """Where lines of the log go, and which."""

    _handlers: List[logging.Handler] = []  # noqa: RUF012 (one log a process)
    _severity: Severity = Severity.info
    _filters: Dict[str, Severity] = {}  # noqa: RUF012

    @staticmethod
    def setupLogging(
        LogFile: str = "",
        SeverityLevel: Severity = Severity.info,
        LogRotation: LogRotationType = LogRotationType.F,
        ProgName: str = "LoggerToolCut",
    ) -> None:
        """Write lines to a file, or to standard error if it has no name. What was set up before ends."""
        Logger.teardownLogging()
        handler: logging.Handler
        if not LogFile:
            handler = logging.StreamHandler()
        elif LogRotation == LogRotationType.T:
            handler = logging.handlers.RotatingFileHandler(LogFile, maxBytes=ROTATE_AT, backupCount=ROTATE_KEEP)
        else:
            handler = logging.FileHandler(LogFile)
        form = f"%(asctime)s {ProgName.replace('%', '%%')} %(name)s %(levelname)s %(message)s"
        handler.setFormatter(logging.Formatter(form))
        ROOT.addHandler(handler)
        Logger._handlers.append(handler)
        Logger.setGeneralLoggingLevel(SeverityLevel)
        Logger.enableLogging()

    @staticmethod
    def teardownLogging() -> None:
        """Close what ``setupLogging`` opened."""
        for handler in Logger._handlers:
            ROOT.removeHandler(handler)
            handler.close()
        Logger._handlers.clear()

    @staticmethod
    def getGeneralLoggingLevel() -> Severity:
        """Tell from which severity on lines are written."""
        return Logger._severity

    @staticmethod
    def setGeneralLoggingLevel(severity: Severity) -> None:
        """Say from which severity on lines are written."""
        ROOT.setLevel(level(severity))
        Logger._severity = severity

    @staticmethod
    def listFilters() -> Dict[str, Severity]:
        """Tell which loggers have a severity of their own."""
        return dict(Logger._filters)

    @staticmethod
    def addFilter(name: str, severity: Severity) -> None:
        """Give a logger a severity of its own."""
        child(name).setLevel(level(severity))
        Logger._filters[name] = severity

    @staticmethod
    def removeFilter(name: str) -> None:
        """Let a logger follow the general severity again."""
        child(name).setLevel(logging.NOTSET)
        Logger._filters.pop(name, None)

    @staticmethod
    def removeAllFilters() -> None:
        """Let all loggers follow the general severity again."""
        for name in list(Logger._filters):
            Logger.removeFilter(name)

    @staticmethod
    def loggingEnabled() -> bool:
        """Tell whether lines are written at all."""
        return not ROOT.disabled

    @staticmethod
    def enableLogging() -> None:
        """Write lines."""
        ROOT.disabled = False

    @staticmethod
    def disableLogging() -> None:
        """Write nothing."""
        ROOT.disabled = True


class Logging:
    """A logger with a name: ``Logging("mine")(Severity.info, "text")`` writes a line."""

    def __init__(self, name: str) -> None:
        """Keeps the name."""
        self._name = name

    def __call__(self, Severity: Severity, Message: str) -> None:
        """Write a line, unless logging is off or its severity too low."""
        if Logger.loggingEnabled():
            child(self._name).log(level(Severity), "%s", Message)


class BuildInfo:
    """What this package was built from."""

    @staticmethod
    def revision() -> str:
        """Version of the package."""
        return __version__

    @staticmethod
    def version_revision() -> str:
        """Version of the package."""
        return __version__

    @staticmethod
    def branch() -> str:
        """Always empty: a package does not know where its sources were."""
        return ""

    @staticmethod
    def timestamp() -> str:
        """Always empty: equal sources give equal packages."""
        return ""

    @staticmethod
    def repository_url() -> str:
        """Always empty, as the branch."""
        return ""


def warn(name: str, message: str, *arguments: Any, error: Optional[BaseException] = None) -> None:
    """A warning of this package itself."""
    if Logger.loggingEnabled():
        child(name).warning(message, *arguments, exc_info=error)
