"""A session of pymongo with an id of our own choice, for writes that are numbered by us: the one place that needs to.

Every replica writes through sessions of the same ids, so that one can fence off another (docs/timeseries.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bson import Binary
from bson.binary import UUID_SUBTYPE

if TYPE_CHECKING:
    from uuid import UUID

    from pymongo import AsyncMongoClient
    from pymongo.asynchronous.client_session import AsyncClientSession


def numbered_session_id(chosen: UUID) -> dict[str, Any]:
    """Return the id as the server knows it (https://github.com/mongodb/specifications, driver-sessions)."""
    return {"id": Binary(chosen.bytes, UUID_SUBTYPE)}


def numbered_session(client: AsyncMongoClient[dict[str, Any]], chosen: UUID) -> AsyncClientSession:
    """Start a session of this id; commands in it bring their own `txnNumber`.

    It is marked dirty: a session that is not goes to the pool when it ends, is given to others, and is ended on the
    server when the client closes, and with it the server would forget the number that keeps others out.
    """
    session = client.start_session(causal_consistency=False)
    _ = session.session_id  # makes the server's part of it
    server_session = session._server_session  # noqa: SLF001 - pymongo has no public way; a test breaks when it changes
    server_session.session_id = numbered_session_id(chosen)
    server_session.mark_dirty()
    return session
