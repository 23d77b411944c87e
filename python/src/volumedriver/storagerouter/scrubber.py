"""Scrubbing by a program of its own."""

import subprocess
from typing import Any, List, Optional, Tuple

from .lock import Lock

#: Seconds after which a running scrubber is looked after.
LOOK_SECS = 0.2


def run(command: List[str], lock: Lock) -> str:
    """Runs a program until it ends or the lock is lost; returns its standard output."""
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    except OSError as error:
        raise RuntimeError(f"{command[0]} cannot be started: {error.strerror}") from None
    with child:
        try:
            while True:
                try:
                    out, err = child.communicate(timeout=LOOK_SECS)
                    break
                except subprocess.TimeoutExpired:
                    if lock.lost.is_set():
                        raise RuntimeError(f"{command[0]} was killed: the lock was lost") from None
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        told = err.decode("utf-8", "replace").strip()[-4096:]
        raise RuntimeError(f"{command[0]} failed with exit code {child.returncode}: {told}")
    return out.decode("utf-8", "surrogateescape")


class Scrubber:
    """Scrubbing in this process."""

    @staticmethod
    def scrub(
        work_unit: str,
        scratch_dir: str,
        region_size_exponent: int = 25,
        fill_ratio: float = 0.9,
        apply_immediately: bool = False,
        verbose_scrubbing: bool = True,
        backend_config: Optional[str] = None,
    ) -> Tuple[str, Any]:
        """Refused: scrubbing is work of a program of its own. Use ``LockedClient.scrub``."""
        raise RuntimeError("Scrubber.scrub: this package does not scrub by itself; use LockedClient.scrub")
