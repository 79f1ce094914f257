"""`python -m bench.autoscale`."""

from bench.autoscale.cli import main

main(prog_name="python -m bench.autoscale")
