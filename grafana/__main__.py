"""`python -m grafana`: writes the dashboards and `docs/metrics.md` anew, from what is said in this folder."""

from __future__ import annotations

from grafana.files import FILES

for path, make in FILES.items():
    path.write_text(make())
