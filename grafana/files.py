"""The files that are generated, and what makes the text of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from grafana.logger import logger
from grafana.metrics_page import metrics_page
from grafana.overview import overview
from grafana.settings_page import settings_page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from grafana.panels import Json

_HERE = Path(__file__).parent


def _text(dashboard: Json) -> str:
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


FILES: Mapping[Path, Callable[[], str]] = {
    _HERE / "dashboards" / "collector-overview.json": lambda: _text(overview()),
    _HERE / "dashboards" / "collector-logger.json": lambda: _text(logger()),
    _HERE.parent / "docs" / "metrics.md": metrics_page,
    _HERE.parent / "docs" / "settings.md": settings_page,
}
