"""Events of what serves volumes. See :mod:`.events`."""

from typing import NoReturn

from .events import Event, missing

volumedriver_error = Event("volumedriver_error")
dtl_state_transition = Event("dtl_state_transition")


def __getattr__(name: str) -> NoReturn:
    """Says why there is nothing else."""
    raise missing(__name__, name)
