"""Reads of a store that are tried again: they change nothing, so a short outage is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from collector.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_Result = TypeVar("_Result")
_TRIES = 5


async def patiently(read: Callable[[], Awaitable[_Result]]) -> _Result:
    """Return what a read of a store returns. Raises StoreUnavailable after some tries, and other errors at once."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(StoreUnavailable),
        wait=wait_exponential(multiplier=0.25, max=4.0),
        stop=stop_after_attempt(_TRIES),
        sleep=anyio.sleep,
        reraise=True,
    )

    async def once() -> _Result:
        return await read()

    return await retrying(once)
