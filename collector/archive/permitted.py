"""The place of a logger's archive: its spec names it, and the replica's COLLECTOR_ARCHIVE permits it. Pure.

A user who may write the bucket of loggers may choose neither paths on the disks of replicas nor buckets that their
logins can write. So a spec names one of the replica's places, or a place below one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.archive.stores.place import parse_address
from collector.errors import WrongDestination
from transfer.errors import WrongSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.archive.stores.place import Address


def permitted_place(key: str, to: str | None, places: Sequence[str]) -> str:
    """Return the place of a logger's archive. Raises WrongDestination."""
    if not places:
        raise WrongDestination(
            f"expected COLLECTOR_ARCHIVE to name the place of the archive of {key}, got nothing: set it on the"
            f" replicas, or do not archive the logger (transfer update {key} --no-archive)"
        )
    try:
        permitted = [parse_address(place, "COLLECTOR_ARCHIVE") for place in places]
        wanted = permitted[0] if to is None else parse_address(to, f"the archive of {key}")
    except WrongSettings as exc:
        raise WrongDestination(str(exc)) from None
    if not any(_is_at_or_below(wanted, one) for one in permitted):
        shown = ", ".join(one.where for one in permitted)
        raise WrongDestination(
            f"expected the archive of {key} at or below {shown}, as COLLECTOR_ARCHIVE permits, got {wanted.where}:"
            f" add it to COLLECTOR_ARCHIVE, or name another place (transfer update {key} --archive PLACE)"
        )
    return places[0] if to is None else to


def _is_at_or_below(wanted: Address, permitted: Address) -> bool:
    store = (wanted.cloud, wanted.container, wanted.account, wanted.endpoint)
    if store != (permitted.cloud, permitted.container, permitted.account, permitted.endpoint):
        return False
    steps, above = _steps(wanted), _steps(permitted)
    return ".." not in steps and steps[: len(above)] == above


def _steps(address: Address) -> list[str]:
    path = address.folder.as_posix() if address.cloud is None else address.prefix
    return [step for step in path.split("/") if step]
