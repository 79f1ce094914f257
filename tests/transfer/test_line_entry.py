"""A line of each common log has its own time and loses nothing; what is no entry says what it is and what to do."""

from __future__ import annotations

import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.entries.entry import new_id
from transfer.entries.line_entry import Form, LineReader, NotALine
from transfer.entries.log_time import read_time
from transfer.errors import InvalidEntry

NOON = "2026-11-27T12:00:00"
AT = datetime(2026, 11, 27, 12, tzinfo=UTC)
EPOCH = 1_795_780_800
REAL: dict[str, tuple[str, str]] = {
    # what writes it: (the field that is its time, a line)
    "Google Cloud": (
        "timestamp",
        '{"jsonPayload":{},"timestamp":"2026-11-27T12:00:00.123456789Z","receiveTimestamp":"x","metadata":{"a":1}}',
    ),
    "Google Cloud, agent": ("timestamp", '{"message":"paid","timestamp":{"seconds":1795780800,"nanos":5}}'),
    "Google Cloud, two fields": (
        "timestampSeconds",
        '{"message":"paid","timestampSeconds":"1795780800","timestampNanos":"5"}',
    ),
    "AWS CloudWatch": (
        "timestamp",
        '{"eventId":"3","ingestionTime":1795780801000,"message":"paid","timestamp":1795780800123}',
    ),
    "AWS Lambda": (
        "timestamp",
        '{"timestamp":"2026-11-27T12:00:00Z","level":"INFO","message":"paid","requestId":"79b4f56e"}',
    ),
    "AWS Lambda, platform": (
        "time",
        '{"time":"2026-11-27T12:00:00.000Z","type":"platform.start","record":{"version":"$LATEST"}}',
    ),
    "AWS CloudTrail": ("eventTime", '{"eventVersion":"1.08","eventTime":"2026-11-27T12:00:00Z","eventName":"Put"}'),
    "Azure": ("time", '{"time":"2026-11-27T12:00:00.0000000Z","resourceId":"/x","category":"Audit","properties":{}}'),
    "nginx": ("time_iso8601", '{"time_iso8601":"2026-11-27T12:00:00+00:00","request_time":"0.003","status":"200"}'),
    "nginx, local": ("time_local", '{"time_local":"27/Nov/2026:14:00:00 +0200","status":200,"remote_addr":"::1"}'),
    "nginx Plus": ("timestamp", '{"timestamp":"2026-11-27T12:00:00+00:00","connections":{"active":1}}'),
    "nginx, msec": ("msec", '{"msec":"1795780800.123","uri":"/"}'),
    "Apache": ("time", '{"time":"[27/Nov/2026:12:00:00 +0000]","request":"GET / HTTP/1.1"}'),
    "Caddy": ("ts", '{"level":"info","ts":1795780800.123456,"logger":"http.log","msg":"handled","duration":0.003}'),
    "Traefik": (
        "time",
        '{"Duration":46,"StartUTC":"2026-11-27T11:59:59Z","time":"2026-11-27T12:00:00Z","level":"info"}',
    ),
    "Envoy": ("start_time", '{"start_time":"2026-11-27T12:00:00.123Z","method":"GET","duration":3}'),
    "GELF": ("timestamp", '{"version":"1.1","host":"a","short_message":"paid","timestamp":1795780800.3072,"_x":1}'),
    "Rust tracing": (
        "timestamp",
        '{"timestamp":"2026-11-27T12:00:00.123456Z","level":"INFO","fields":{"message":"paid"},"target":"shop"}',
    ),
    "Kubernetes, klog": ("ts", '{"ts":1795780800123.456,"caller":"a.go:1","msg":"paid","v":0}'),
    "Kubernetes, component": ("time", '{"time":"2026-11-27T12:00:00.123456789Z","msg":"paid","metadata":{"name":"p"}}'),
    "Kubernetes, audit": (
        "requestReceivedTimestamp",
        '{"kind":"Event","metadata":{"x":1},"requestReceivedTimestamp":"2026-11-27T12:00:00.000000Z","verb":"get"}',
    ),
    "docker json-file": ("time", '{"log":"paid\\n","stream":"stdout","time":"2026-11-27T12:00:00.123456789Z"}'),
    "pino": ("time", '{"level":30,"time":1795780800123,"pid":1,"hostname":"a","msg":"paid"}'),
    "winston": ("timestamp", '{"level":"info","message":"paid","timestamp":"2026-11-27T12:00:00.123Z"}'),
    "bunyan": ("time", '{"name":"shop","pid":1,"level":30,"msg":"paid","time":"2026-11-27T12:00:00.123Z","v":0}'),
    "zap": ("ts", '{"level":"info","ts":1795780800.1234567,"caller":"a.go:1","msg":"paid"}'),
    "zap, ISO": ("ts", '{"level":"info","ts":"2026-11-27T12:00:00.123Z","msg":"paid"}'),
    "zerolog": ("time", '{"level":"info","time":1795780800,"message":"paid"}'),
    "logrus": ("time", '{"level":"info","msg":"paid","time":"2026-11-27T13:00:00+01:00"}'),
    "slog": ("time", '{"time":"2026-11-27T12:00:00.123456789+00:00","level":"INFO","msg":"paid"}'),
    "hclog": ("@timestamp", '{"@level":"info","@message":"paid","@timestamp":"2026-11-27T12:00:00.123456Z"}'),
    "etcd": ("ts", '{"level":"info","ts":"2026-11-27T12:00:00.123456Z","caller":"a.go:1","msg":"paid"}'),
    "log4j2": (
        "instant",
        '{"instant":{"epochSecond":1795780800,"nanoOfSecond":123456789},"level":"INFO","message":"paid"}',
    ),
    "log4j2, millis": ("timeMillis", '{"timeMillis":1795780800123,"thread":"main","level":"INFO","message":"paid"}'),
    "ECS": ("@timestamp", '{"@timestamp":"2026-11-27T12:00:00.123Z","log.level":"info","message":"paid"}'),
    "logstash-logback": (
        "@timestamp",
        '{"@timestamp":"2026-11-27T12:00:00.123+00:00","@version":"1","message":"paid"}',
    ),
    "Serilog CLEF": ("@t", '{"@t":"2026-11-27T12:00:00.1234567Z","@mt":"paid {Id}","Id":7}'),
    ".NET console": ("Timestamp", '{"Timestamp":"2026-11-27T12:00:00.123Z","EventId":0,"LogLevel":"Information"}'),
    "Monolog": ("datetime", '{"message":"paid","level":200,"datetime":"2026-11-27T12:00:00.123456+00:00","extra":[]}'),
    "MongoDB": ("t", '{"t":{"$date":"2026-11-27T12:00:00.123+00:00"},"s":"I","c":"NETWORK","id":1,"msg":"paid"}'),
    "PostgreSQL": ("timestamp", '{"timestamp":"2026-11-27 12:00:00.123 UTC","pid":1,"message":"paid"}'),
    "CockroachDB": ("timestamp", '{"channel":"DEV","timestamp":"1795780800.123456789","message":"paid"}'),
    "Suricata": ("timestamp", '{"timestamp":"2026-11-27T12:00:00.123456+0000","event_type":"dns"}'),
    "Zeek": ("ts", '{"ts":1795780800.123456,"uid":"C","id.orig_h":"10.0.0.1"}'),
    "Fluent Bit": ("date", '{"date":1795780800.123456,"log":"paid"}'),
    "Splunk": ("time", '{"time":1795780800.123,"event":"paid","host":"a"}'),
    "OpenTelemetry": ("timeUnixNano", '{"timeUnixNano":"1795780800123456789","body":{"stringValue":"paid"}}'),
    "loguru": (
        "record.time",
        '{"text":"paid","record":{"message":"paid","time":{"repr":"x","timestamp":1795780800.5}}}',
    ),
    "structlog": ("timestamp", '{"event":"paid","level":"info","timestamp":"2026-11-27T12:00:00.123456Z"}'),
    "Vector": ("timestamp", '{"message":"paid","source_type":"file","timestamp":"2026-11-27T12:00:00.123456789Z"}'),
    "rsyslog": ("timestamp", '{"timestamp":"2026-11-27T12:00:00.123+00:00","host":"a","message":"paid"}'),
    "journald": (
        "__REALTIME_TIMESTAMP",
        '{"__REALTIME_TIMESTAMP":"1795780800123456","MESSAGE":"paid","PRIORITY":"6","_PID":"1"}',
    ),
}


def decoded(parts: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.msgpack.decode(parts.body(time.time_ns(), new_id()))
    return found


@pytest.mark.parametrize("name", REAL)
def test_a_line_of_a_common_log_has_its_own_time_and_loses_nothing(name: str) -> None:
    used, line = REAL[name]
    parts = LineReader().read(line.encode())
    entry = decoded(parts)
    assert AT <= entry["timestamp"] < AT + timedelta(seconds=1)
    fields = json.loads(line)
    for field, value in fields.items():
        stored = {"timestamp": "timestamp_", "metadata": "metadata_"}.get(field, field)
        assert field == used == "timestamp" or entry["data"][stored] == value
    assert list(parts.notes.values()) == [
        f"the time of an entry is its field {used!r}; --timestamp-field names another"
    ]


@pytest.mark.parametrize(
    "line",
    [
        '{"msg": "paid"}',
        '{"timestamp": "yesterday", "time": 0.023, "metadata": {"a": 1}}',
        '{"time": "12:00:00", "date": "2026-11-27", "ts": true, "timestamp": null}',
        '{"timestamp": 12, "timestamp_": 13}',
    ],
)
def test_what_is_no_time_keeps_its_place(line: str) -> None:
    parts = LineReader().read(line.encode())
    assert parts.moment is None
    data = decoded(parts)["data"]
    fields = json.loads(line)
    assert sorted(map(str, data.values())) == sorted(map(str, fields.values()))
    assert ("timestamp" in parts.notes) == ("timestamp" in fields)


def test_the_fields_of_time_and_metadata_may_be_named() -> None:
    reader = LineReader(Form.JSON, "at.begin", "host")
    line = '{"at": {"begin": 1795780800, "end": 1}, "host": {"name": "a"}, "timestamp": 1, "metadata": 2}'
    entry = decoded(reader.read(line.encode()))
    assert (entry["timestamp"], entry["metadata"]) == (AT, {"name": "a"})
    assert entry["data"] == {"at": {"begin": EPOCH, "end": 1}, "timestamp_": 1, "metadata_": 2}
    assert decoded(LineReader(Form.JSON, "timestamp").read(b'{"timestamp": 1795780800, "a": 1}'))["data"] == {"a": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1}', "field 'at': expected a time, .*, got nothing"),
        ('{"at": "soon"}', "field 'at': expected a time, .*, got 'soon'"),
        ('{"at": 1795780800, "host": 7}', "field 'host': expected an object, .*, got 7"),
    ],
)
def test_a_line_without_the_field_that_was_named_is_refused(line: str, message: str) -> None:
    with pytest.raises(InvalidEntry, match=message):
        LineReader(Form.JSON, "at", "host").read(line.encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-27T12:00:00Z", 0),
        ("2026-11-27t12:00:00z", 0),
        ("2026-11-27 12:00:00.000000001 +0000 UTC m=+0.1", 1),
        ("2026-11-27 12:00:00,5Z", 500_000_000),
        ("20261127T120000Z", 0),
        ("2026/11/27 12:00:00 +00:00", 0),
        ("2026-11-27T12:00+00", 0),
        ("2026-11-27T11:59:60Z", 0),
        ("Fri, 27 Nov 2026 12:00:00 GMT", 0),
        ("Fri Nov 27 12:00:00 UTC 2026", 0),
        ("[27/Nov/2026:07:00:00 -0500]", 0),
        ("1795780800", 0),
        (1795780800, 0),
        (1795780800000, 0),
        (1795780800000000, 0),
        (1795780800000000001, 1),
        (1795780800.25, 250_000_000),
        ("2026-11-27", None),
        ("2026-13-27T12:00:00Z", None),
        ("", None),
        (True, None),
        (10**21, None),
        (float("nan"), None),
        (float("inf"), None),
        ([1795780800], None),
        ({"seconds": "x"}, None),
        ({"$date": {"$numberLong": "1795780800000"}}, 0),
    ],
)
def test_a_time_is_read_to_the_nanosecond(text: object, expected: int | None) -> None:
    assert read_time(text, 10**8) == (None if expected is None else EPOCH * 10**9 + expected)


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.250", "%b %d %H:%M:%S"])
def test_a_time_without_a_zone_is_local(form: str) -> None:
    moment = (datetime.now(UTC) - timedelta(hours=3)).replace(microsecond=0)
    found = read_time(moment.astimezone().strftime(form))
    assert found is not None
    assert found // 10**9 == int(moment.timestamp())


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - the bounds have none
def test_whatever_python_writes_is_read_again(moment: datetime) -> None:
    micros = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert read_time(moment.isoformat()) == micros * 1000


@given(st.text() | st.floats() | st.integers() | st.dictionaries(st.sampled_from(["seconds", "$date"]), st.text()))
def test_reading_a_time_raises_nothing(value: object) -> None:
    read_time(value)


@pytest.mark.parametrize(
    ("number", "stored"),
    [
        ("1e400", "1e400"),
        ("-1E+400", "-1E+400"),
        ("1e-400", "1e-400"),
        ("1e99999999999999999999", "1e99999999999999999999"),
        ("0.1234567890123456789", "0.1234567890123456789"),
        ("18446744073709551615", "18446744073709551615"),
        ("0.1", 0.1),
        ("1e308", 1e308),
        ("0.10000000000000000", 0.1),
        ("1795780800.123456789", "1795780800.123456789"),
        ("9223372036854775807", 9223372036854775807),
        ("-0.0", -0.0),
    ],
)
def test_a_number_that_mongodb_has_no_room_for_is_text_and_it_is_said(number: str, stored: object) -> None:
    parts = LineReader().read(f'{{"n": {number}, "deep": [{{"n": {number}}}]}}'.encode())
    data = decoded(parts)["data"]
    assert data == {"n": stored, "deep": [{"n": stored}]}
    assert ("number" in parts.notes) == isinstance(stored, str)


def test_a_name_that_is_there_twice_loses_nothing_and_it_is_said() -> None:
    parts = LineReader().read(b'{"a": 1, "a": 2, "a_": 3, "deep": {"b": 1, "b": 2, "b": 3}}')
    assert decoded(parts)["data"] == {"a": 1, "a__": 2, "a_": 3, "deep": {"b": 1, "b_": 2, "b__": 3}}
    assert "is there twice" in parts.notes["twice"]


def test_the_id_of_a_line_that_was_exported_is_a_field() -> None:
    parts = LineReader().read(b'{"_id": {"$oid": "665f1f77bcf86cd799439011"}, "a": 1}')
    assert decoded(parts)["data"] == {"_id_": {"$oid": "665f1f77bcf86cd799439011"}, "a": 1}
    assert "_id" in parts.notes


@pytest.mark.parametrize("before", ["", " ", "\t", "\ufeff", "\r", "\ufeff  "])
@pytest.mark.parametrize("after", ["", " ", "\r"])
def test_what_stands_around_an_object_is_nothing(before: str, after: str) -> None:
    assert LineReader().read(f'{before}{{"a": 1}}{after}'.encode()).data == {"a": 1}


@pytest.mark.parametrize(
    ("line", "got", "hint", "is_all"),
    [
        (
            b"Nov 27 12:00:00 a sshd[1]: accepted",
            r"got text: Nov 27 12:00:00 a sshd\[1\]: accepted$",
            "--from text",
            False,
        ),
        (gzip.compress(b"{}", mtime=0), "got what gzip has packed", "zcat FILE", True),
        (b"\x28\xb5\x2f\xfd\x04", "got what zstd has packed", "zstdcat FILE", True),
        ('{"a": 1}'.encode("utf-16"), "got text in UTF-16", "iconv", True),
        ('{"a": 1}'.encode("utf-16-le"), "got text in UTF-16", "iconv", True),
        (b"{", r"got the first line of JSON that goes over several: \{", "jq -c", True),
        (b"[1, 2]", "got an array", "jq -c", True),
        (b'  "a": 1,', 'got text: "a": 1,', "--from text", False),
        (b'{"a": 1', r'got \{"a": 1 \(', "", False),
        (b'{"a": "\xff"}', r'\\xff"\} \(UnicodeDecodeError\)', "", False),
        (b"7", "got a number: 7", "", False),
        (b"\x1b[31mred", r"got text: \\x1b\[31mred", "--from text", False),
        (b"x" * 1000, "got text: x{60}…$", "--from text", False),
    ],
)
def test_what_is_no_entry_says_what_it_is_and_what_to_do(line: bytes, got: str, hint: str, is_all: bool) -> None:
    with pytest.raises(NotALine, match=got) as caught:
        LineReader().read(line)
    assert hint in caught.value.hint
    assert bool(caught.value.hint) == bool(hint)
    assert caught.value.is_all == is_all
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode) | st.sampled_from([b'{"a":' * 5000, b"[" * 5000]))
def test_a_line_is_an_entry_or_says_why_not(line: bytes) -> None:
    for form in Form:
        try:
            parts = LineReader(form).read(line)
        except InvalidEntry as error:
            assert str(error).isprintable()  # noqa: PT017 - what it says is looked at
        else:
            assert "data" in decoded(parts)


@pytest.mark.parametrize("line", [b"plain", b'{"a": 1}', b"\xff\x00x", "ünï\r".encode(), b"  indented"])
def test_text_is_a_message_as_it_stands(line: bytes) -> None:
    expected = line.removesuffix(b"\r").decode(errors="backslashreplace")
    assert decoded(LineReader(Form.TEXT).read(line))["data"] == {"msg": expected}


def test_a_line_of_the_journal_has_its_message_level_logger_and_time() -> None:
    line = {
        "__REALTIME_TIMESTAMP": "1795780800123456",
        "MESSAGE": list("größe\0".encode()),
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "sshd",
        "level": "mine",
        "TAGS": ["a", "b"],
    }
    entry = decoded(LineReader(Form.JOURNALD).read(json.dumps(line).encode()))
    assert entry["timestamp"] == AT + timedelta(microseconds=123456)
    assert entry["data"] == {
        "msg": "größe\0",
        "level": "ERROR",
        "logger": "sshd",
        "__REALTIME_TIMESTAMP": "1795780800123456",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "sshd",
        "level_": "mine",
        "TAGS": ["a", "b"],
    }
