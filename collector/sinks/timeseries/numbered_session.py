"""A session of pymongo with a chosen id, for numbered writes. Only this file uses private names of pymongo's sessions.

Every replica writes through sessions of the same ids, so that one replica can fence off another (docs/timeseries.md).
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
    """Return the id in the form that the server uses (https://github.com/mongodb/specifications, driver-sessions)."""
    return {"id": Binary(chosen.bytes, UUID_SUBTYPE)}


def numbered_session(client: AsyncMongoClient[dict[str, Any]], chosen: UUID) -> AsyncClientSession:
    """Start a session with this id; commands in it bring their own `txnNumber`.

    The session is marked dirty. pymongo would put a clean one into its pool, use it again, and end it on the server
    when the client closes: then the server would forget the number that keeps earlier owners out.
    """
    session = client.start_session(causal_consistency=False)
    _ = session.session_id  # reading it makes the server session
    server_session = session._server_session  # noqa: SLF001 - pymongo has no public way; a test breaks when it changes
    server_session.session_id = numbered_session_id(chosen)
    server_session.mark_dirty()
    return session
