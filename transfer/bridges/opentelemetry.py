"""`TransferExporter`: log records of OpenTelemetry become entries of a logger, in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.trace import format_span_id, format_trace_id

from transfer.background.source import Emitter
from transfer.entries.fields import add_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord


class TransferExporter(Emitter, LogRecordExporter):
    """Queues records. It belongs into a `SimpleLogRecordProcessor`: its queue is in the background already.

    A `BatchLogRecordProcessor` in front of it hands over its last batch after the end of ours, where it is dropped,
    unless `LoggerProvider.shutdown` is called before the exit of the process.
    """

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Queue records; what becomes of them is in `stats`."""
        if self._leaves_out():
            return LogRecordExportResult.SUCCESS
        for readable in batch:
            scope, record = readable.instrumentation_scope, readable.log_record
            name = scope.name if scope else None
            moment = record.timestamp or record.observed_timestamp
            important = _severity(record.severity_number)[0] >= SeverityNumber.WARN.value
            data = self._fields(_named_data, name, readable)
            self._sender.send(self.key, data, timestamp=moment, important=important)
        return LogRecordExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all that was exported is confirmed or dropped; return whether it is, in time."""
        return self.wait(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Close."""
        self.close()


def _named_data(name: str | None, readable: ReadableLogRecord) -> dict[str, object]:
    return readable_data(readable, name)


def readable_data(readable: ReadableLogRecord, name: str | None) -> dict[str, object]:
    """Return the fields of an entry: `msg` (the body), `level`, `severity`, `logger`, ids, `resource`, attributes."""
    record = readable.log_record
    severity, level = _severity(record.severity_number)
    data: dict[str, object] = {
        "msg": record.body,
        "level": record.severity_text or level,
        "severity": severity,
        "logger": name,
        "resource": nested(readable.resource.attributes),
    }
    if record.trace_id:
        data["trace_id"] = format_trace_id(record.trace_id)
    if record.span_id:
        data["span_id"] = format_span_id(record.span_id)
    if record.event_name:
        data["event"] = record.event_name
    attributes = nested(record.attributes or {})
    exception = attributes.get("exception")
    if isinstance(exception, dict) and "stacktrace" in exception:
        exception["stack"] = exception.pop("stacktrace")
    add_fields(data, attributes)
    return data


def _severity(given: object) -> tuple[int, str]:
    """Return number and name; some instrumentations give the plain number."""
    try:
        severity = SeverityNumber(given or 0)
    except ValueError:
        severity = SeverityNumber.UNSPECIFIED
    return severity.value, severity.name


def nested(attributes: Mapping[str, object]) -> dict[str, object]:
    """Return `{"http.route": 1}` as `{"http": {"route": 1}}`: queries of MongoDB take a dot for a step.

    A name whose place is taken by another attribute stays as it is.
    """
    tree: dict[str, object] = {}
    for name, value in sorted(attributes.items()):
        *path, last = name.split(".")
        place = tree
        for step in path:
            below = place.setdefault(step, {})
            if not isinstance(below, dict):
                place, last = tree, name
                break
            place = below
        place[last] = dict(value) if isinstance(value, dict) else value
    return tree
