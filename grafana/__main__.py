"""`python -m grafana`: writes the dashboards, `docs/metrics.md` and `docs/settings.md` anew from the code."""

from __future__ import annotations

from grafana.files import FILES

for path, make in FILES.items():
    path.write_text(make())
