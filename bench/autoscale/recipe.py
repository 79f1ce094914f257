"""How a scaler is told to scale, read from a shipped manifest: a ScaledObject or a HorizontalPodAutoscaler."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Unit(StrEnum):
    """What a policy's value counts."""

    PERCENT = "Percent"
    PODS = "Pods"


@dataclass(frozen=True, slots=True)
class Policy:
    """At most so much more, or less, than there was at the start of the period; in seconds."""

    unit: Unit
    value: int
    period: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one direction: the window that has to agree, in seconds; of the policies the most generous counts."""

    window: float
    policies: tuple[Policy, ...]

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """Read `scaleUp` or `scaleDown`. Raises ValueError for what is not simulated here."""
        if unknown := given.keys() - {"stabilizationWindowSeconds", "policies"}:
            raise ValueError(f"expected rules that the simulated autoscaler knows, got {', '.join(sorted(unknown))}")
        policies = [Policy(Unit(one["type"]), one["value"], one["periodSeconds"]) for one in given["policies"]]
        return cls(given["stabilizationWindowSeconds"], tuple(policies))

    def faster(self, factor: float) -> Self:
        """Return the rules for a time that runs faster."""
        policies = (replace(policy, period=policy.period / factor) for policy in self.policies)
        return replace(self, window=self.window / factor, policies=tuple(policies))


@dataclass(frozen=True, slots=True)
class Recipe:
    """From `least` to `most` replicas, one for each `threshold` of the metric."""

    least: int
    most: int
    threshold: float
    up: Rules
    down: Rules

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a shipped scaler."""
        scaler = yaml.safe_load(path.read_text())
        spec = scaler["spec"]
        if scaler["kind"] == "ScaledObject":
            least, most = spec["minReplicaCount"], spec["maxReplicaCount"]
            behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
            (trigger,) = (one["metadata"] for one in spec["triggers"])
            threshold = trigger.get("threshold") or trigger["targetValue"]
        else:
            least, most, behaviour = spec["minReplicas"], spec["maxReplicas"], spec["behavior"]
            (metric,) = spec["metrics"]
            threshold = metric["external"]["target"]["averageValue"]
        rules = (Rules.read(behaviour[direction]) for direction in ("scaleUp", "scaleDown"))
        return cls(least, most, float(threshold), *rules)

    def faster(self, factor: float) -> Self:
        """Return the recipe for a time that runs faster."""
        return replace(self, up=self.up.faster(factor), down=self.down.faster(factor))
