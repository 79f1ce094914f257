"""Fixtures for tests of applications that log through `transfer`; pytest finds them by the package's entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from transfer.testing import RecordingBlockingTransfer, RecordingTransfer


@pytest.fixture
def recording_transfer() -> RecordingTransfer:
    """Give a `RecordingTransfer`: the async client without a network."""
    from transfer.testing import RecordingTransfer  # noqa: PLC0415 - nothing is loaded for those who do not use it

    return RecordingTransfer()


@pytest.fixture
def recording_blocking_transfer() -> RecordingBlockingTransfer:
    """Give a `RecordingBlockingTransfer`: the blocking client without a network."""
    from transfer.testing import RecordingBlockingTransfer  # noqa: PLC0415 - as above

    return RecordingBlockingTransfer()
