"""A Django application that asks its database in each request and logs: `application`, whatever serves it."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

if TYPE_CHECKING:
    from django.http import HttpRequest

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="not one",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["django.contrib.contenttypes"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"transfer": {"class": "transfer.TransferHandler", "key": "app"}},
        "loggers": {"shop": {"handlers": ["transfer"], "level": "INFO"}},
    },
)
django.setup()
logger = logging.getLogger("shop")
logger.info("loaded")


def order(_: HttpRequest, number: int) -> HttpResponse:
    """Use the ORM, which refuses to work where an event loop is running."""
    from django.contrib.contenttypes.models import ContentType  # noqa: PLC0415 - when applications are loaded
    from django.db import connection  # noqa: PLC0415 - as above

    with connection.cursor() as cursor:
        cursor.execute("select 1")
    asked = str(ContentType.objects.filter(pk=number).query)
    logger.info("GET", extra={"number": number, "asked": len(asked)})
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("<int:number>", order)]
application = get_wsgi_application()


def serve_with_eventlet(port: int) -> None:
    """Serve it from greenlets of eventlet, until somebody sends SIGTERM."""
    import signal  # noqa: PLC0415 - it is patched

    import eventlet  # noqa: PLC0415 - as above
    import eventlet.wsgi  # noqa: PLC0415 - as above

    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    eventlet.wsgi.server(eventlet.listen(("127.0.0.1", port)), application, log_output=False)
