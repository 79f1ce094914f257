"""Settings from the environment: parsers, all problems at once, secrets never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nkeys  # type: ignore[import-untyped]
import pytest

from transfer.environment import Environment, parse_duration, parse_size
from transfer.errors import WrongSettings
from transfer.names import check_namespace
from transfer.nats_settings import NatsSettings, with_keywords
from transfer.secret import Unreadable

if TYPE_CHECKING:
    from pathlib import Path

SEED = nkeys.encode_seed(b"7" * 32, nkeys.PREFIX_BYTE_USER).decode()


def problems_of(environ: dict[str, str]) -> dict[str, str]:
    environment = Environment(environ)
    NatsSettings.read(environment)
    return {problem.variable: str(problem) for problem in environment.problems}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("15s", 15), ("5m", 300), ("1h", 3600), ("7d", 604800), ("15", 15), ("0.5", 0.5), ("1m30s", 90)],
)
def test_a_duration_has_units_or_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "1 s", "-1", "1x", "1e3", "nan", "inf", "1m30", "٣"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4MiB", 4 << 20),
        ("512KiB", 512 << 10),
        ("1GiB", 1 << 30),
        ("10MB", 10_000_000),
        ("4096", 4096),
        ("1.5 kib", 1536),
    ],
)
def test_a_size_has_units_or_is_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "4M", "-1", "1.5", "4 MiB MiB", "nan", "²"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)


def test_values_are_read_and_an_empty_one_is_not_set() -> None:
    environment = Environment({"A": "x", "E": "", "N": "5", "D": "1m", "S": "1KiB", "M": "release"})
    assert environment.text("A") == "x"
    assert environment.text("E", "default") == "default"
    assert environment.text("E") is None
    assert environment.integer("N", 1) == 5
    assert environment.integer("E", 1) == 1
    assert environment.duration("D", 1.0) == 60
    assert environment.size("S", 1) == 1024
    assert environment.choice("M", ("debug", "release"), "debug") == "release"
    environment.finish()


def test_all_problems_are_reported_together() -> None:
    environment = Environment({"I": "many", "J": "0", "D": "soon", "S": "big", "C": "loud", "NS": "a b"})
    environment.text("T", required=True)
    environment.text("NS", check=check_namespace)
    assert environment.integer("I", 7) == 7
    environment.integer("J", 7, minimum=1, maximum=9)
    environment.duration("D", 1.0)
    environment.size("S", 1)
    environment.choice("C", ("debug", "release"), "debug")
    with pytest.raises(WrongSettings) as caught:
        environment.finish()
    assert str(caught.value).splitlines() == [
        "T: expected a value, got nothing: it is not set",
        "NS: expected 1 to 63 of the characters A-Z a-z 0-9 _ -, got 'a b'",
        "I: expected a whole number, got 'many'",
        "J: expected a whole number of at least 1 of at most 9, got '0'",
        "D: expected a duration such as 250ms, 15s, 5m, 1m30s or plain seconds, got 'soon'",
        "S: expected a size such as 512KiB, 4MiB, 10MB or plain bytes, got 'big'",
        "C: expected one of debug, release, got 'loud'",
    ]


def test_a_secret_comes_from_a_file_without_its_line_break(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    environment = Environment({"NATS_TOKEN_FILE": str(tmp_path / "token")})
    secret = environment.secret("NATS_TOKEN")
    assert secret is not None
    assert secret.read() == "s3cret"
    (tmp_path / "token").write_text("another\r\n")
    assert secret.read() == "another", "a file is read each time"
    for half_written in ("", "\n", "\xff"):
        (tmp_path / "token").write_text(half_written, encoding="latin-1")
        with pytest.raises(Unreadable, match=r"^NATS_TOKEN_FILE: expected .*, got"):
            secret.read()
    environment.finish()


def test_a_secret_given_twice_or_in_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    environment = Environment({"A": "s3cret", "A_FILE": missing, "B_FILE": missing})
    environment.secret("A")
    assert environment.secret("B") is None
    assert [problem.variable for problem in environment.problems] == ["A", "B_FILE"]
    assert "No such file" in str(environment.problems[1])


def test_nats_settings_become_keywords_that_never_give_up() -> None:
    settings = NatsSettings.read(environment := Environment({"NATS_HOSTS": "a:4222, nats://b", "NATS_NKEY": SEED}))
    environment.finish()
    keywords, login = settings.keywords(), settings.login("nonce")
    assert keywords["servers"] == ["a:4222", "nats://b"]
    assert login["nkey"].startswith("U")
    assert keywords["allow_reconnect"] is True
    assert keywords["max_reconnect_attempts"] == -1
    assert not settings.wants_tls
    assert NatsSettings(("tls://a",)).wants_tls


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"NATS_HOSTS": ""}, "NATS_HOSTS"),
        ({"NATS_HOSTS": "http://a"}, "NATS_HOSTS"),
        ({"NATS_HOSTS": "nats://a:port"}, "NATS_HOSTS"),
        ({"NATS_HOSTS": "nats://"}, "NATS_HOSTS"),
        ({"NATS_HOSTS": "ws://a,nats://b"}, "NATS_HOSTS"),
        ({"NATS_NKEY": "SU5"}, "NATS_NKEY"),
        ({"NATS_NKEY": nkeys.encode_seed(b"7" * 32, nkeys.PREFIX_BYTE_ACCOUNT).decode()}, "NATS_NKEY"),
        ({"NATS_NKEY": SEED[:-1] + "\u00e9"}, "NATS_NKEY"),
        ({"NATS_USER": "u"}, "NATS_PASSWORD"),
        ({"NATS_PASSWORD": "p"}, "NATS_USER"),
        ({"NATS_TOKEN": "t", "NATS_NKEY": SEED}, "NATS_NKEY"),
        ({"NATS_TOKEN": "t", "NATS_HOSTS": "nats://u:p@a"}, "NATS_TOKEN"),
        ({"NATS_CREDS": "/nowhere"}, "NATS_CREDS"),
        ({"NATS_CREDS": __file__}, "NATS_CREDS"),
        ({"NATS_TLS_CA": "/nowhere"}, "NATS_TLS_CA"),
        ({"NATS_TLS_CA": __file__}, "NATS_TLS_CA"),
        ({"NATS_TLS_CERT": __file__}, "NATS_TLS_KEY"),
        ({"NATS_TLS_KEY": __file__}, "NATS_TLS_CERT"),
        ({"NATS_TLS_CERT": __file__, "NATS_TLS_KEY": __file__}, "NATS_TLS_CERT, NATS_TLS_KEY"),
    ],
)
def test_wrong_nats_settings_are_problems(environ: dict[str, str], variable: str) -> None:
    assert list(problems_of({"NATS_HOSTS": "nats://a:4222"} | environ)) == [variable]


def test_secrets_are_in_no_problem_and_no_repr() -> None:
    environ = {"NATS_HOSTS": "nats://user:hidden1@a:x", "NATS_NKEY": "SUhidden2", "NATS_TOKEN": "hidden3"}
    environment = Environment(environ | {"NATS_PASSWORD": "hidden4"})
    settings = NatsSettings.read(environment)
    with pytest.raises(WrongSettings) as caught:
        environment.finish()
    assert "hidden" not in str(caught.value)
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings)


def test_a_login_that_is_given_hides_those_of_the_environment() -> None:
    environ = {"NATS_NKEY_FILE": "f", "NATS_TOKEN": "t", "NAMESPACE": "a", "NATS_HOSTS": "h"}
    assert with_keywords(environ, {"NATS_USER": "u", "NAMESPACE": None}) == {
        "NAMESPACE": "a",
        "NATS_HOSTS": "h",
        "NATS_USER": "u",
    }
    assert with_keywords(environ, {"NAMESPACE": "b"}) == environ | {"NAMESPACE": "b"}
