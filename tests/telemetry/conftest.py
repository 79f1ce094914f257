"""A status that is served over HTTP, for all tests of telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
from tests.support.status import Scene, served


@pytest.fixture
def scene() -> Iterator[Scene]:
    with served() as found:
        yield found
