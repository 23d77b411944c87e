"""Waiting for what a server does after it has answered, with a bound, and telling about it."""

import time
from typing import Callable, NamedTuple, Optional

#: How long ``wait=True`` waits if nothing else is said, in seconds.
WAIT_TIMEOUT_SECS = 600

#: Seconds between two questions: the first, and the most.
SHORTEST, LONGEST = 0.05, 2.0


class Progress(NamedTuple):
    """How far an operation is: its name, what it works on, seconds since its begin, questions asked, whether done."""

    operation: str
    object_id: str
    elapsed_secs: float
    asked: int
    done: bool


#: What is called after each question.
Listener = Callable[[Progress], None]


def until(
    ready: Callable[[], bool],
    operation: str,
    object_id: str,
    timeout_secs: float = WAIT_TIMEOUT_SECS,
    progress: Optional[Listener] = None,
) -> None:
    """Asks ``ready`` until it says so. ``TimeoutError`` after ``timeout_secs``: the operation may still go on."""
    begin = time.monotonic()
    pause, asked = SHORTEST, 0
    while True:
        done = ready()
        asked += 1
        elapsed = time.monotonic() - begin
        if progress is not None:
            progress(Progress(operation, object_id, elapsed, asked, done))
        if done:
            return
        if elapsed >= timeout_secs:
            raise TimeoutError(f"{operation} of {object_id} is not done after {timeout_secs} s; it may still go on")
        time.sleep(min(pause, timeout_secs - elapsed))
        pause = min(pause * 2, LONGEST)
