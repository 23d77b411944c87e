"""Names of the events that the original published over AMQP. Nothing here publishes any."""

#: What programs that want more than the names are told.
WHY = (
    "nothing here publishes events over AMQP, so there are no messages to read; the modules have the names of the "
    "events alone, for programs that say by them what they would do"
)


class Event:
    """An event of the original, by its name."""

    def __init__(self, name: str) -> None:
        """Keeps the name."""
        self.name = name

    def __eq__(self, other: object) -> bool:
        """Whether it is the same event."""
        return self.name == other.name if isinstance(other, Event) else NotImplemented

    def __hash__(self) -> int:
        """Equal events have equal hashes."""
        return hash(self.name)

    def __repr__(self) -> str:
        """Class and name."""
        return f"Event({self.name})"


def missing(module: str, name: str) -> AttributeError:
    """For a name that a module of the original had, and that is not here."""
    return AttributeError(f"module {module!r} has no attribute {name!r}: {WHY}")
