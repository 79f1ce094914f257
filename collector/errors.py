"""The errors of the collector: one class for each decision that the caller can take."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.errors import TransferError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from collector.model import Reason


class CollectorError(Exception):
    """Base of all errors of this package."""


class Poison(CollectorError):
    """An entry or a message can never be stored: keep it as a dead letter and go on with its neighbours."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(f"{reason.value}: {error}")
        self.reason = reason
        self.error = error


class BucketMissing(CollectorError):
    """The bucket of loggers is gone: running pipelines go on, and somebody has to bring the bucket back."""

    def __init__(self, bucket: str, why: str) -> None:
        super().__init__(
            f"expected bucket {bucket} to be there, as {why}, but it is gone: restore it, or declare the loggers again"
            " with transfer set (its streams and what waits in them stay as they are)"
        )


class SinkUnavailable(CollectorError):
    """The sink cannot store entries now: try the same again later, in place."""

    def __init__(self, error: str, *, ambiguous: bool = False) -> None:
        super().__init__(error)
        self.ambiguous = ambiguous
        """Whether entries may be stored all the same; a second try is harmless, for their identities are the same."""


class OwnershipLost(CollectorError):
    """Another replica writes the logger's entries now: drop its deliveries without an answer, and stand by."""

    def __init__(self, what: str) -> None:
        super().__init__(f"expected to be the owner of {what}, but another replica has taken it over")


class StillOwned(CollectorError):
    """Loggers are owned here for longer than they should be: leave what needs them not to be, and try again later."""

    def __init__(self, loggers: Sequence[str], seconds: float) -> None:
        shown = ", ".join(sorted(loggers)[:5]) + (", …" if len(loggers) > 5 else "")
        super().__init__(
            f"expected to give back all time-series loggers within {seconds:g} s, but still own {len(loggers)}: {shown}"
        )


class CollectionChanged(CollectorError):
    """The collection is another one than was inspected: inspect it again, make it if it is gone, and begin anew."""

    def __init__(self, collection: str) -> None:
        super().__init__(
            f"expected {collection} to be the collection that it was, but it was dropped or is another one"
        )


class WrongCollection(CollectorError):
    """A collection is not as needed, and somebody else has to change it: the logger's entries wait until then."""


class WrongDestination(CollectorError):
    """A logger's spec names a destination that this replica does not have: the logger's entries wait until it has."""


class WrongTemplate(CollectorError):
    """A template of paths for an archive could lead somewhere it must not, or to one path twice."""

    def __init__(self, template: str, why: str) -> None:
        super().__init__(
            f"expected a template of paths such as {{capture}}/date={{date}}/{{first}}-{{last}}-{{n}}.{{ext}},"
            f" got {template!r} with {why}"
        )


class CaptureRefused(CollectorError):
    """A capture cannot begin: stream, durable or archive is not as needed, and somebody has to change it."""


class StreamWentBack(CollectorError):
    """A stream contradicts the archive's log: nothing is archived until somebody has looked."""

    def __init__(self, stream: str, how: str) -> None:
        super().__init__(
            f"expected stream {stream} to go on where the archive's log ends, but {how}: the stream has lost messages"
            " that it had, or is an older copy; bring it back as it was, or begin another capture by another name"
        )


class RecordDamaged(CollectorError):
    """A record of the archive's log cannot be read: nothing is archived or replayed until it is whole again."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"expected {path} to be a record of the archive's log, but {why}: bring its bytes back from a copy or an"
            " older version of the object; without it nobody knows which messages are archived"
        )


class BlockDamaged(CollectorError):
    """The bytes of a block cannot be read to their end: bring them back from a copy.

    The text says why, and has neither its path nor a payload.
    """


class BlockUnreadable(CollectorError):
    """A block of an archive cannot be read, so nothing behind it is replayed until it is whole again."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"expected block {path} to be readable, but {why}: bring it back from a copy, or from an older version of"
            " the object; collector archive verify names all blocks with a damage"
        )


class WrongReplay(CollectorError):
    """An archive cannot be replayed in the way that was asked for."""


class WrongCursor(CollectorError):
    """The file of a cursor does not belong to this replay, or another process uses it."""


class ReaderGone(CollectorError):
    """The reader of standard output has closed it for good: a replica whose sink it is has to end."""

    def __init__(self) -> None:
        super().__init__(
            "expected standard output to have a reader, but it was closed (EPIPE): start the replica again with a"
            " reader; the entries wait in JetStream"
        )


class StoreUnavailable(CollectorError):
    """The store of an archive cannot do this now: try the same again later, in place."""

    def __init__(self, error: str, *, ambiguous: bool = False) -> None:
        super().__init__(error)
        self.ambiguous = ambiguous
        """Whether the object may have been created all the same; the same create again tells."""


class StoreRefused(CollectorError):
    """The store of an archive does not do this until somebody changes rights, bucket, folder or settings.

    Nothing was created.
    """


class NotThere(CollectorError):
    """The store of an archive has no object under this path."""

    def __init__(self, where: str, path: str) -> None:
        super().__init__(f"expected an object {path} in {where}, but there is none")
        self.path = path


class NoCapture(CollectorError):
    """There is no log of a capture where somebody wants to read one."""

    def __init__(self, where: str, capture: str | None, there: str) -> None:
        named = f"a capture {capture!r}" if capture is not None else "an archive"
        super().__init__(
            f"expected {named} under {where}, but its captures are: {there}; correct the address or the name"
        )


class ChildExited(CollectorError):
    """An actor ended although it was not asked to stop."""

    def __init__(self, name: str) -> None:
        super().__init__(f"expected {name} to run until it is asked to stop, but it returned or was cancelled")


class GaveUp(CollectorError):
    """A permanent child of the root crashed too often in a short time: the process has to end."""

    def __init__(self, name: str, crashes: int, seconds: float, last: str) -> None:
        super().__init__(f"{name} crashed {crashes} times within {seconds:.0f} s, the last time with {last}")


class CannotListen(CollectorError):
    """The endpoint cannot listen on its address: the address is taken, or is not one of this machine."""

    def __init__(self, host: str, port: int, why: str) -> None:
        shown = f"[{host}]" if ":" in host else host
        super().__init__(
            f"COLLECTOR_HTTP: expected an address that can be listened on, got {shown}:{port}: {why}; "
            "end the process that has it, or set COLLECTOR_HTTP to another HOST:PORT"
        )


class Aborted(CollectorError):
    """The service ended before it had drained: by a second signal, or at the end of its shutdown timeout."""


class ConnectionClosed(CollectorError):
    """nats-py has closed the connection for good, because of the server: the process has to end."""


def safe_description(exc: BaseException) -> str:
    """Return a description of an unforeseen error that may be logged: only kind and place, unless the error is ours.

    Errors of Python and of the drivers may quote an entry. So may Poison, which is kept with its dead letter.
    """
    if isinstance(exc, (CollectorError, TransferError)) and not isinstance(exc, Poison):
        return repr(exc)
    frames = traceback.extract_tb(exc.__traceback__)
    where = "".join(f" at {Path(frame.filename).name}:{frame.lineno}" for frame in frames[-2:])
    return f"{type(exc).__name__}{where}"


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """Yield the errors in nested groups."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from leaves(inner)
    else:
        yield exc
