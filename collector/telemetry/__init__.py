"""Events in; metrics, log lines, `/status`, the probes and the page out."""
