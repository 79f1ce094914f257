"""What makes the dashboards and the page of the metrics; `python -m grafana` writes them, a test keeps them true."""
