"""The one table of all faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.faults import clusters, data, mongodb, nats, registry, replicas

if TYPE_CHECKING:
    from tests.chaos.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    *replicas.FAULTS,
    *nats.FAULTS,
    *mongodb.FAULTS,
    *clusters.FAULTS,
    *data.FAULTS,
    *registry.FAULTS,
)
