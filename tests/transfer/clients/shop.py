"""A web application whose module logs when it is loaded, in gunicorn's parent, and at each request in its workers."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from transfer import TransferHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger("shop")
logger.addHandler(TransferHandler("app"))
logger.setLevel(logging.INFO)
logger.info("loaded")


def application(
    environ: dict[str, str], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Answer with the number of the process."""
    logger.info("GET %s", environ["PATH_INFO"], extra={"number": int(environ["PATH_INFO"].strip("/"))})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
