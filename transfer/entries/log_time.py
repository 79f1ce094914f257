"""The time of an entry as logs write it: text in many forms, numbers of any unit, objects. Pure.

Out come nanoseconds since 1970. A text without a time zone is local time, as everywhere in this package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from transfer.entries.misfit import Misfit
from transfer.entries.moments import END, FIRST, from_datetime

NAMES = (
    "timestamp",
    "@timestamp",
    "@t",
    "time",
    "ts",
    "__REALTIME_TIMESTAMP",
    "time_iso8601",
    "time_local",
    "datetime",
    "asctime",
    "eventTime",
    "requestReceivedTimestamp",
    "start_time",
    "timeUnixNano",
    "timeMillis",
    "instant",
    "timestampSeconds",
    "Timestamp",
    "Time",
    "TimeGenerated",
    "EdgeStartTimestamp",
    "date",
    "msec",
    "t",
    "record.time",
)
"""Fields that are taken for the time of a line, the first that holds one: those that logs commonly have."""
_LEAST = 10**8
"""A smaller number is a duration rather than seconds since 1970."""
_MONTH_NAMES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES.split("|"), 1)}
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?"
_ZONE = r" ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?"
_MONTH = rf"(?P<month>{_MONTH_NAMES})"
_COMPACT = r"(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?"
_DAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +)?"
_FORMS = [
    re.compile(form, re.IGNORECASE | re.ASCII)
    for form in (
        rf"(?P<year>\d{{4}})[-/](?P<month>\d\d)[-/](?P<day>\d\d)[T ]{_CLOCK}{_ZONE}(?: [A-Z]{{3,5}})?(?: m=\S+)?",
        rf"(?P<year>\d{{4}})(?P<month>\d\d)(?P<day>\d\d)T{_COMPACT}{_ZONE}",
        rf"\[?(?P<day>\d\d?)/{_MONTH}/(?P<year>\d{{4}})[: ]{_CLOCK}{_ZONE}\]?",
        rf"{_DAY}(?P<day>\d\d?)[ -]{_MONTH}[ -](?P<year>\d{{4}}) {_CLOCK}{_ZONE}",
        rf"{_DAY}{_MONTH} +(?P<day>\d\d?) {_CLOCK}{_ZONE} (?P<year>\d{{4}})",
        rf"{_MONTH} +(?P<day>\d\d?) {_CLOCK}(?P<year>)(?P<zone>)",
    )
]
_NUMBER = re.compile(r"-?\d{1,19}(?:\.\d+)?", re.ASCII)


def find_time(fields: Mapping[str, object]) -> tuple[str, int] | None:
    """Return the name of the field that is the time of a line, and that time; None when no field is known as one."""
    for name in NAMES:
        if name in fields or "." in name:
            moment = read_time(_pair(fields) if name == "timestampSeconds" else field_at(fields, name), _LEAST)
            if moment is not None:
                return name, moment
    return None


def field_at(fields: Mapping[str, object], path: str) -> object:
    """Return a field by its name, else by its dotted path; None when there is none."""
    if path in fields:
        return fields[path]
    found: object = fields
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _pair(fields: Mapping[str, object]) -> object:
    """Return the time that agents of Google write into two fields."""
    return {"seconds": fields["timestampSeconds"], "nanos": fields.get("timestampNanos", 0)}


def read_time(value: object, least: int = 0) -> int | None:
    """Return the nanoseconds since 1970, None for what is no time.

    The size of a number says whether it is in seconds, milliseconds, microseconds or nanoseconds; one that is smaller
    than `least` is none.
    """
    moment: int | None = None
    if isinstance(value, str):
        moment = _from_text(value.strip(), least)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        moment = _from_number(str(value) if isinstance(value, int) else repr(value), least)
    elif isinstance(value, Mapping):
        moment = _from_object(value, least)
    return moment if moment is not None and FIRST <= moment < END else None


def _from_number(text: str, least: int) -> int | None:
    number = Decimal(text)
    if not number.is_finite() or abs(number) < least:
        return None
    size = abs(number)
    digits = 9 if size < 10**11 else 6 if size < 10**14 else 3 if size < 10**17 else 0
    return int(number.scaleb(digits)) if size < 10**20 else None


def _from_object(value: Mapping[str, object], least: int) -> int | None:
    """Read Google's pair, log4j's `instant`, the extended JSON of MongoDB, loguru's time."""
    for seconds, rest in (("seconds", "nanos"), ("epochSecond", "nanoOfSecond")):
        if seconds in value:
            whole, nanos = _whole(value[seconds]), _whole(value.get(rest, 0))
            return None if whole is None or nanos is None else whole * 10**9 + nanos
    for name in ("$date", "$numberLong", "timestamp"):
        if name in value:
            return read_time(value[name], least)
    return None


def _whole(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,12}", value, re.ASCII) else None


def _from_text(text: str, least: int) -> int | None:
    if _NUMBER.fullmatch(text):
        return _from_number(text, least)
    for form in _FORMS:
        if found := form.fullmatch(text):
            return _from_parts(found.groupdict())
    return None


def _from_parts(parts: Mapping[str, str | None]) -> int | None:
    month = parts["month"] or ""
    second = int(parts["second"] or 0)
    leap = second == 60  # is the second after it, as everywhere where time counts from 1970
    fraction = int(f"{parts['fraction'] or ''}000000000"[:9])
    try:
        moment = datetime(
            int(parts["year"] or _year_without_one()),
            _MONTHS.get(month.lower()) or int(month),
            int(parts["day"] or 0),
            int(parts["hour"] or 0),
            int(parts["minute"] or 0),
            second - leap,
            tzinfo=_zone(parts["zone"] or ""),
        )
        if not parts["year"] and moment.astimezone() > datetime.now(UTC) + timedelta(days=1):
            moment = moment.replace(year=moment.year - 1)
        return from_datetime(moment) + leap * 10**9 + fraction
    except (ValueError, OverflowError, Misfit):
        return None


def _year_without_one() -> int:
    """Return the year of a line of syslog, which states none: this one, or the last one in January."""
    return datetime.now(UTC).year


def _zone(zone: str) -> timezone | None:
    if not zone:
        return None
    if zone[0] not in "+-":
        return UTC
    offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:].lstrip(":") or 0))
    return timezone(-offset if zone[0] == "-" else offset)
