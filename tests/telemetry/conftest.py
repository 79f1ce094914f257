"""A status that is served over HTTP, for all tests of telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.status import Scene, served

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def scene() -> Iterator[Scene]:
    with served() as found:
        yield found
