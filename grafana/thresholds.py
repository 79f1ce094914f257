"""What is too much: the colours in the dashboards and the alerts in `prometheus/alerts.yml` share these numbers."""

from __future__ import annotations

THRESHOLDS = {
    "CollectorLagOld": 300,
    "CollectorLagGrowing": 600,
    "CollectorStreamFilling": 0.8,
    "CollectorJetStreamFilling": 0.8,
    "CollectorDeadLetters": 0,
    "CollectorCrashLooping": 3,
    "CollectorBufferFull": 0.75,
    "CollectorAckPendingAtLimit": 0.95,
}
"""By alert, the number above which it fires."""
