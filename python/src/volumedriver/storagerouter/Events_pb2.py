"""The envelope of the original's events: there is none. See :mod:`.events`."""

from .events import WHY

raise ImportError(f"{__name__}: {WHY}")
