"""Kubernetes' HorizontalPodAutoscaler as a pure function of time, replicas and one external metric by AverageValue.

https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details and, for what that leaves
open, kubernetes/pkg/controller/podautoscaler: desired = ceil(metric / threshold) outside the tolerance, then the
windows, then the policies, then the limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.autoscale.recipe import Unit

if TYPE_CHECKING:
    from bench.autoscale.recipe import Policy, Recipe

TOLERANCE = 0.1
"""kube-controller-manager's --horizontal-pod-autoscaler-tolerance."""
SYNC_PERIOD = 15.0
"""Seconds: its --horizontal-pod-autoscaler-sync-period."""


@dataclass
class Autoscaler:
    """One autoscaler with its memory. Time is whatever clock the caller has, in the recipe's seconds."""

    recipe: Recipe
    _wanted: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def replicas(self, now: float, current: int, metric: float | None) -> int:
        """Return how many replicas there have to be from now on; without a reading, as many as there are."""
        if metric is None:
            return current
        if not self._wanted:
            self._wanted.append((now, current))  # what a new one finds counts as wanted
        wanted = self._steady(now, current, self._by_metric(current, metric))
        allowed = self._allowed(now, current, wanted)
        if allowed != current:
            self._changes.append((now, allowed - current))
        return allowed

    def _by_metric(self, current: int, metric: float) -> int:
        if abs(1 - metric / (self.recipe.threshold * current)) <= TOLERANCE:
            return current
        return math.ceil(metric / self.recipe.threshold)

    def _steady(self, now: float, current: int, wanted: int) -> int:
        """Go up only as far as all of the up window wanted, and down only as far as all of the down window did."""
        up = min([wanted, *(one for at, one in self._wanted if at > now - self.recipe.up.window)])
        down = max([wanted, *(one for at, one in self._wanted if at > now - self.recipe.down.window)])
        self._wanted.append((now, wanted))
        return min(max(current, up), down)

    def _allowed(self, now: float, current: int, wanted: int) -> int:
        within = min(max(wanted, self.recipe.least), self.recipe.most)
        if within > current:
            most = max(self._limit(now, current, policy, 1) for policy in self.recipe.up.policies)
            return max(current, min(within, math.ceil(most)))
        least = min(self._limit(now, current, policy, -1) for policy in self.recipe.down.policies)
        return min(current, max(within, int(least)))

    def _limit(self, now: float, current: int, policy: Policy, direction: int) -> float:
        before = current - sum(change for at, change in self._changes if at > now - policy.period)
        if policy.unit is Unit.PODS:
            return before + direction * policy.value
        return before * (100 + direction * policy.value) / 100
