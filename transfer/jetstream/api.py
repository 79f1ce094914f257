"""Requests to JetStream's own API and its answers, errors translated at this border.

They are raw ones (https://docs.nats.io/reference/reference-protocols/nats_api_reference), because nats-py adds fields
that the Go client does not accept, and leaves out of its answers what the collector needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from nats import errors as nats_errors

from transfer.errors import JetStreamError, Refused, Unavailable, UnknownDurable, UnknownStream
from transfer.jetstream.permissions import refusal
from transfer.nats_settings import without_userinfo

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

API_TIMEOUT = 5.0
NANOSECONDS = 1_000_000_000

# nats-server, server/errors.json
NAME_IN_USE = 10058
SUBJECTS_OVERLAP = 10065
DURABLE_EXISTS = (10013, 10105, 10148)
NOT_THE_ONLY_DURABLE = (10099, 10100)
_KINDS = {10059: UnknownStream, 10014: UnknownDurable, 10149: UnknownDurable}
SERVICE_UNAVAILABLE = 503


class ApiError(msgspec.Struct):
    """The error in an answer of JetStream."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class _Reply(msgspec.Struct):
    error: ApiError | None = None


async def api(connection: Client, subject: str, payload: bytes = b"", timeout: float = API_TIMEOUT) -> bytes:
    """Send a request to JetStream and return the answer's JSON.

    Raises `UnknownStream`, `UnknownDurable` or another `JetStreamError` for an error that JetStream answers, `Refused`
    when we are not permitted to ask, and `Unavailable` when nobody answers, in time or at all.
    """
    try:
        reply = (await connection.request(subject, payload, timeout=timeout)).data
    except nats_errors.NoRespondersError as error:
        raise Unavailable(
            f"{subject}: expected JetStream to answer, but it is not there (not enabled, or starting)"
        ) from error
    except (nats_errors.Error, TimeoutError) as error:
        if missing := refusal(connection, subject):
            raise Refused(f"{subject}: expected an answer, but {missing}") from error
        raise Unavailable(
            f"{subject}: expected an answer, got {error} (last error: {connection.last_error})"
        ) from error
    answered = msgspec.json.decode(reply, type=_Reply).error
    if answered is not None:
        raise _typed(subject, answered)
    return reply


def _typed(subject: str, error: ApiError) -> JetStreamError | Unavailable:
    if error.code == SERVICE_UNAVAILABLE:
        return Unavailable(f"{subject}: JetStream answered {error.description} (err_code {error.err_code})")
    kind = _KINDS.get(error.err_code, JetStreamError)
    return kind(subject, error.code, error.err_code, error.description)


async def request(jetstream: JetStreamContext, what: str, payload: object = None) -> bytes:
    """Send a request such as `STREAM.INFO.name` under the API prefix of this context; see `api`."""
    body = b"" if payload is None else msgspec.json.encode(payload)
    return await api(connection_of(jetstream), f"{api_prefix(jetstream)}.{what}", body)


def api_prefix(jetstream: JetStreamContext) -> str:
    """Return what the subjects of JetStream's API begin with in this context."""
    return jetstream._prefix  # noqa: SLF001 - as below


def connection_of(jetstream: JetStreamContext) -> Client:
    """Return the connection that a JetStream context is on."""
    return jetstream._nc  # noqa: SLF001 - nats-py has no public name for it


def server_of(jetstream: JetStreamContext) -> str:
    """Return the address of the server that we are connected to, without a login; empty when there is none."""
    url = connection_of(jetstream).connected_url
    return "" if url is None else without_userinfo(url.geturl())
