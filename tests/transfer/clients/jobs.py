"""A Celery application: its worker logs in the parent that forks, and in the children that work."""

from __future__ import annotations

import logging
import os

from celery import Celery  # type: ignore[import-untyped]
from celery.signals import worker_process_shutdown  # type: ignore[import-untyped]

from transfer import TransferHandler

folder = os.environ["JOBS_FOLDER"]
app = Celery("jobs", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": folder,
    "data_folder_out": folder,
    "control_folder": f"{folder}/control",
    "polling_interval": 0.01,
}
app.conf.worker_hijack_root_logger = False
logger = logging.getLogger("jobs")
logger.addHandler(TransferHandler("app"))
logger.setLevel(logging.INFO)
logger.info("loaded")


@app.task  # type: ignore[untyped-decorator]
def work(number: int) -> None:
    """Log a number."""
    logger.info("working", extra={"number": number})


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def say_so(**_: object) -> None:
    """Log at the very end of a child."""
    logger.info("ending")


def ask(count: int) -> None:
    """Ask for so many jobs."""
    for number in range(count):
        work.delay(number)
