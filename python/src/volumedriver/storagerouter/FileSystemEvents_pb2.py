"""Events of volumes and nodes. See :mod:`.events`."""

from typing import NoReturn

from .events import Event, missing

volume_create = Event("volume_create")
volume_resize = Event("volume_resize")
volume_delete = Event("volume_delete")
file_rename = Event("file_rename")
up_and_running = Event("up_and_running")
owner_changed = Event("owner_changed")


def __getattr__(name: str) -> NoReturn:
    """Says why there is nothing else."""
    raise missing(__name__, name)
