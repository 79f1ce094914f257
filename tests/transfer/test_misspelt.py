"""Variables that nobody reads are named, with the one that they probably mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.settings import Settings
from transfer.environment import Environment
from transfer.errors import WrongSettings
from transfer.misspelt import misspelt

NEEDED = {
    "NAMESPACE": "beta",
    "NATS_HOSTS": "nats://user:secret-word@127.0.0.1:4222",
    "DATABASE": "mongodb://user:secret-word@127.0.0.1:27017/?replicaSet=rs0",
}


def read(environ: dict[str, str]) -> Environment:
    environment = Environment(environ)
    Settings.read_from(environment)
    return environment


KNOWN = sorted(read(NEEDED).effective)
MISTAKES = {
    "COLLECTOR_BATCH_ENTRYS": "COLLECTOR_BATCH_ENTRIES",
    "COLLECTOR_BATCHENTRIES": "COLLECTOR_BATCH_ENTRIES",
    "COLLECTOR_BUFFER_BYTE": "COLLECTOR_BUFFER_BYTES",
    "COLLECTOR_ACKWAIT": "COLLECTOR_ACK_WAIT",
    "collector_ack_wait": "COLLECTOR_ACK_WAIT",
    "COLLECTER_ACK_WAIT": "COLLECTOR_ACK_WAIT",
    "COLLECTOR_HTTPS": "COLLECTOR_HTTP",
    "COLLECTOR_LAG_PERIODS": "COLLECTOR_LAG_PERIOD",
    "COLLECTOR_NONSENSE": None,
    "NATS_HOST": "NATS_HOSTS",
    "NATS_URL": "NATS_HOSTS",
    "NATS_NKEY_FILES": "NATS_NKEY_FILE",
    "NATS_USERNAME": "NATS_USER",
    "NATS_PASS": "NATS_PASSWORD",
    "NATS_CREDENTIALS": "NATS_CREDS",
    "NATS_TLS_CAS": "NATS_TLS_CA",
    "NAME_SPACE": "NAMESPACE",
    "NAMESPACES": "NAMESPACE",
    "DATABASES": "DATABASE",
    "DATABASE_FILES": "DATABASE_FILE",
    "MONGODB_URI": "DATABASE",
    "mode": "MODE",
}
STRANGERS = [
    "PATH", "HOME", "NODE_ENV", "CODE", "MODEL", "POSTGRES_DATABASE", "NATS_SERVICE_HOST", "NATS_SERVICE_PORT_CLIENT",
    "NATS_PORT", "NATS_PORT_4222_TCP", "NATS_PORT_4222_TCP_ADDR",
    "COLLECTOR_SERVICE_HOST", "COLLECTOR_SERVICE_PORT_HTTP",
    "COLLECTOR_PORT_8080_TCP_PROTO",
    "COLLECTOR_PORT", "COLLECTOR_MONGOD", "COLLECTOR_TEST_BACKLOG", "TRANSFER_BUNDLE_ENTRIES",
    "DATABASE_FILE", "NATS_NKEY_FILE",
]  # fmt: skip


@pytest.mark.parametrize(("variable", "meant"), MISTAKES.items())
def test_a_misspelt_variable_is_named_with_the_one_that_it_means(variable: str, meant: str | None) -> None:
    (found,) = read({**NEEDED, variable: "1"}).misspelt("COLLECTOR_")
    assert (found.variable, found.meant) == (variable, meant)


@pytest.mark.parametrize("variable", STRANGERS)
def test_what_others_read_is_not_named(variable: str) -> None:
    known = {"DATABASE_FILE": {"DATABASE": ""}, "NATS_NKEY_FILE": {}}
    path = {"DATABASE_FILE": "/dev/null", "NATS_NKEY_FILE": "/dev/null"}.get(variable, "1")
    try:
        environment = read({**NEEDED, **known.get(variable, {}), variable: path})
    except WrongSettings as wrong:
        assert "did you mean" not in str(wrong)  # noqa: PT017 - an empty secret is wrong, its name is not
    else:
        assert environment.misspelt("COLLECTOR_") == []


@pytest.mark.parametrize(
    ("needed", "set_instead"), [("NATS_HOSTS", "NATS_HOST"), ("NAMESPACE", "NAMESPACES"), ("DATABASE", "MONGODB_URI")]
)
def test_a_missing_variable_names_the_one_that_was_set_in_its_place(needed: str, set_instead: str) -> None:
    environ = {name: value for name, value in NEEDED.items() if name != needed} | {set_instead: NEEDED[needed]}
    with pytest.raises(WrongSettings) as caught:
        Settings.read(environ)
    assert f"{needed}: expected" in str(caught.value)
    assert f"but {set_instead} is: did you mean {needed}?" in str(caught.value)
    assert "secret-word" not in str(caught.value)


@given(st.sampled_from(KNOWN), st.data())
def test_one_letter_more_less_or_other_is_always_found(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(3, len(name) - 1))
    before, at, after = name[:place], name[place], name[place + 1 :]
    mistaken = before + data.draw(st.sampled_from(["", f"X{at}", "X"])) + after
    if mistaken in KNOWN or len(name) < 6:
        return
    (found,) = misspelt([mistaken], KNOWN)
    assert found.meant is not None


def test_the_settings_in_force_are_known_and_hold_no_secret() -> None:
    token = {"NATS_HOSTS": "nats://127.0.0.1:4222", "NATS_TOKEN": "secret-word"}
    assert read({**NEEDED, **token}).effective["NATS_TOKEN"] == "set"
    effective = read({**NEEDED, "COLLECTOR_WRITES": "7"}).effective
    assert effective["NATS_HOSTS"] == "nats://***@127.0.0.1:4222"
    assert effective["DATABASE"] == "127.0.0.1:27017"
    assert effective["COLLECTOR_WRITES"] == 7
    assert effective["COLLECTOR_BATCH_ENTRIES"] == 1000
    assert "secret-word" not in str(effective)
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    assert all(f"`{name}`" in page for name in effective)
