"""Panels, rows and dashboards in Grafana's classic schema, without positions: those follow from the order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Json: TypeAlias = dict[str, object]

WIDTH = 24
"""Columns of a dashboard."""
SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED, BLUE, PURPLE, DARK_RED = "green", "orange", "red", "blue", "purple", "dark-red"
NEUTRAL = "text"
NEVER = 1e9
"""What is as large as that will not happen."""
_UNKNOWN = -1
_NO_DATA = "no data"
PER_SECOND, PER_MINUTE = "si:/s", "suffix:/min"
_COUNTS = ("short", PER_SECOND, PER_MINUTE)
"""Units in which less than 1 is next to nothing, and is drawn so."""


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and what its series are called."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """What is drawn from some queries, and how large."""

    kind: str
    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    width: int
    height: int
    options: Json
    field: Json
    colors: Mapping[str, str]
    """Of series, by their names."""

    def at(self, number: int, x: int, y: int) -> Json:
        """Return the panel's JSON at a place."""
        targets = [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend,
                "range": True,
            }
            for index, query in enumerate(self.queries)
        ]
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": targets,
            "fieldConfig": {"defaults": {"unit": self.unit, **self.field}, "overrides": self._overrides()},
            "options": self.options,
        }

    def _overrides(self) -> list[Json]:
        return [
            {
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
            }
            for name, color in self.colors.items()
        ]


def stat(title: str, description: str, unit: str, expr: str, steps: Mapping[float, str] | None = None) -> Panel:
    """Make a number with its recent course: green, and from each of `steps` on in that one's color.

    It has no color without steps, and none without data: what nobody knows is neither 0 nor fine, nor what it was.
    """
    options: Json = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "center",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "value",
    }
    known = {0: GREEN, **steps} if steps else {}
    field: Json = {
        "color": {"mode": "thresholds"},
        "noValue": _NO_DATA,
        "mappings": [
            {"type": "value", "options": {str(_UNKNOWN): {"text": _NO_DATA, "color": NEUTRAL}}},
            {"type": "range", "options": {"from": NEVER, "to": None, "result": {"text": "never", "color": RED}}},
        ],
        "thresholds": _thresholds(known, NEUTRAL),
    }
    return Panel("stat", title, description, unit, [Query(or_no_data(expr))], 4, 4, options, field, {})


def or_no_data(expr: str) -> str:
    """Return an expression of a number from 0 on that is below 0 where there is none.

    So its line goes on, and its last value is not taken for the present one; Grafana passes over what is not a number.
    """
    return f"({expr}) >= 0 or on () vector({_UNKNOWN})"


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    limit: float | None = None,
    most: float | None = None,
    stacked: bool = False,
    colors: Mapping[str, str] | None = None,
    logger_link: str = "",
) -> Panel:
    """Make lines over time from 0 to `most`, if given. `limit` is a dashed line, a click leads to `logger_link`."""
    options: Json = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    custom: Json = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 8,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if limit is None else "dashed"},
    }
    field: Json = {
        "color": {"mode": "palette-classic"},
        "min": 0,
        "custom": custom,
        "thresholds": _thresholds({} if limit is None else {limit: RED}),
    }
    if unit in _COUNTS:
        custom["axisSoftMax"] = 1
    if most is not None:
        field["max"] = most
    if logger_link:
        field["links"] = [{"title": "Show this logger", "url": logger_link}]
    return Panel("timeseries", title, description, unit, queries, width, 7, options, field, colors or {})


def _thresholds(steps: Mapping[float, str], color: str = GREEN) -> Json:
    base = {"color": color, "value": None}
    return {"mode": "absolute", "steps": [base, *({"color": color, "value": value} for value, color in steps.items())]}


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading, from left to right and down."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice in the head of a dashboard: a query for the values of a label."""

    name: str
    label: str
    query: str
    several: bool = True

    def as_json(self) -> Json:
        """Return the variable's JSON; where several may be chosen, all are at first."""
        chosen = {"current": {"selected": True, "text": ["All"], "value": ["$__all"]}} if self.several else {}
        return {
            "type": "query",
            "name": self.name,
            "label": self.label,
            "datasource": DATASOURCE,
            "query": {"query": self.query, "refId": self.name},
            "definition": self.query,
            "refresh": 2,
            "sort": 1,
            "multi": self.several,
            "includeAll": self.several,
            **({"allValue": ".*"} if self.several else {}),
            **chosen,
        }


def dashboard(
    uid: str, title: str, description: str, variables: Sequence[Variable], rows: Sequence[Row], *, other: str
) -> Json:
    """Make a dashboard, with a link to the `other` one: its uid."""
    source = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
    url = f"/d/{other}?${{datasource:queryparam}}&${{job:queryparam}}"
    link = {"type": "link", "icon": "dashboard", "title": other, "url": url, "keepTime": True}
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["collector"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [link],
        "annotations": {"list": []},
        "templating": {"list": [source, *(variable.as_json() for variable in variables)]},
        "panels": list(_placed(rows)),
    }


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    number, y = 0, 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "gridPos": place, "panels": []}
        x, y = 0, y + 1
        for panel in row.panels:
            number += 1
            if x + panel.width > WIDTH:
                x, y = 0, y + panel.height
            yield panel.at(number, x, y)
            x += panel.width
        y += row.panels[-1].height
