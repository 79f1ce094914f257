"""The rooms of the house by floors, the lowest first; a room imports only rooms of a lower floor of its package.

docs/design.md has a line for each of them.
"""

from __future__ import annotations

COLLECTOR: tuple[tuple[str, ...], ...] = (
    ("model", "runtime", "settings"),
    ("events",),
    ("errors", "flow", "rules"),
    ("decoding", "local", "mongodb", "telemetry"),
    ("jetstream",),
    ("sinks",),
    ("archive", "dead_letters"),
    ("actors",),
    ("app", "check", "demo"),
    ("cli",),
    ("__main__",),
)
TRANSFER: tuple[tuple[str, ...], ...] = (
    ("difference", "misspelt", "ndjson", "printable", "secret", "system"),
    ("errors",),
    ("entries", "environment", "names"),
    ("nats_settings", "wire"),
    ("changes", "jetstream", "options"),
    ("publishing",),
    ("background", "bulk", "tail"),
    ("bridges", "client", "handler", "prometheus"),
    ("blocking", "commands"),
    ("cli", "testing"),
    ("__init__", "__main__", "pytest_plugin"),
)
HOUSE = {"collector": COLLECTOR, "transfer": TRANSFER}
FLOORS = {
    f"{package}.{room}": height
    for package, floors in HOUSE.items()
    for height, floor in enumerate(floors)
    for room in floor
}
FACES = ("transfer", "collector.local")
"""Packages whose `__init__` hands on names from inside: outside of them, these names have this address."""
