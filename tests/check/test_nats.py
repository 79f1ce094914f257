"""What `collector check` says of NATS, its streams, durables and declarations."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, StreamConfig

from collector.local import NatsServer
from tests.support.checking import Check, matches
from tests.support.logins import tls_config
from tests.support.planted import planted
from tests.support.security_page import permissions, subjects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.ancestor import Ancestor
    from tests.support.certificates import Authority


pytestmark = pytest.mark.timeout(180)


async def test_nats_that_is_away(check: Check, own_nats: Callable[..., NatsServer]) -> None:
    server = await anyio.to_thread.run_sync(own_nats)
    check.environ["NATS_HOSTS"] = server.url
    server.kill()
    (line,) = await check.troubles()
    assert matches(line, "wrong", "NATS", server.url, "Connect call failed")


async def test_a_wrong_password_for_nats(check: Check, own_nats: Callable[..., NatsServer]) -> None:
    config = "authorization { user: u, password: right }"
    check.environ["NATS_HOSTS"] = (await anyio.to_thread.run_sync(own_nats, config)).url
    check.environ |= {"NATS_USER": "u", "NATS_PASSWORD": planted("password")}
    (line,) = await check.troubles()
    assert matches(line, "wrong", "NATS", "to let us in", "Authorization Violation")
    assert planted("") not in line


async def test_tls_that_only_one_side_wants(check: Check, own_nats: Callable[..., NatsServer], pki: Authority) -> None:
    secure = await anyio.to_thread.run_sync(own_nats, tls_config(pki, verify=False))
    check.environ["NATS_HOSTS"] = secure.url
    (line,) = await check.troubles()
    assert matches(line, "wrong", "NATS", "certificate verify failed")
    check.environ |= {"NATS_HOSTS": (await anyio.to_thread.run_sync(own_nats)).url, "NATS_TLS_CA": pki.path("ca.pem")}
    (line,) = await check.troubles()
    assert matches(line, "wrong", "NATS", "to let us in", "TLS was asked for")
    check.environ["NATS_HOSTS"] = secure.url
    assert await check.troubles() == []


async def test_no_jetstream(check: Check, own_nats: Callable[..., NatsServer]) -> None:
    config = "accounts { A { users: [ { user: u, password: right } ] } }"
    check.environ["NATS_HOSTS"] = (await anyio.to_thread.run_sync(own_nats, config)).url
    check.environ |= {"NATS_USER": "u", "NATS_PASSWORD": "right"}
    (line,) = await check.troubles()
    assert matches(line, "wrong", "JetStream", "expected an answer", "jetstream: enabled")


@pytest.fixture(scope="module")
def guarded_nats() -> Iterator[NatsServer]:
    """Give a nats-server with the page's user `u0`, and one more for each permission, who lacks it."""
    with TemporaryDirectory(prefix="nats-") as folder:
        users = [
            f"{{ user: u{number}, password: right, permissions: {permissions('collector', 'Space', without=less)} }}"
            for number, less in enumerate([None, *subjects("collector")])
        ]
        config = f"accounts {{ A {{ jetstream: enabled, users: [\n{chr(10).join(users)}\n] }} }}"
        with NatsServer(Path(folder), config=config) as server:
            yield server


async def test_with_the_documented_permissions_all_is_well_and_with_one_less_it_is_named(
    check: Check, guarded_nats: NatsServer
) -> None:
    check.environ |= {"NATS_HOSTS": guarded_nats.url, "NAMESPACE": "Space", "NATS_PASSWORD": "right"}
    check.environ["NATS_USER"] = "u0"
    assert await check.troubles() == []
    for number, (action, subject) in enumerate(subjects("collector"), 1):
        check.environ["NATS_USER"] = f"u{number}"
        lines = await check.troubles()
        assert len(lines) == 1, (subject, lines)
        sentence = f"NATS does not permit us to {action} to {subject} ->"
        level = "warning" if subject == "NAMESPACE.replicas" else "wrong"
        assert matches(lines[0], level, "NATS permissions", sentence.replace("NAMESPACE", "Space")), lines


async def test_a_durable_that_gives_up_and_one_that_is_too_small_for_the_replicas(
    check: Check, declared: Ancestor
) -> None:
    name = f"{declared.namespace}:logs:system"
    config = ConsumerConfig(
        durable_name=name, ack_policy=AckPolicy.EXPLICIT, max_deliver=5, max_ack_pending=10_000, ack_wait=30
    )
    await declared.jetstream.add_consumer(name, config)
    gives_up, in_files, *without_home, small = await check.troubles()
    assert matches(in_files, "warning", f"durable {name}", "expected mem_storage true")
    assert len(without_home) == 2
    for line in without_home:
        assert matches(
            line, "warning", f"durable {name}", "expected priority_", "got none", "a running replica sets it"
        )
    assert matches(
        gives_up, "warning", f"durable {name}", "expected max_deliver -1, got 5", "a running replica sets it"
    )
    assert matches(small, "warning", f"durable {name}", "max_ack_pending at least 100000, got 10000")
    plan = (await check.troubles(replicas=17))[0]
    assert matches(plan, "wrong", "settings", "got 102000", "at most 16 replicas")


async def test_another_consumer_in_the_way_and_a_push_durable_in_use(check: Check, declared: Ancestor) -> None:
    await declared.declare("old")
    name, old = (f"{declared.namespace}:logs:{key}" for key in ("system", "old"))
    await declared.jetstream.add_consumer(name, ConsumerConfig(durable_name="other", ack_policy=AckPolicy.EXPLICIT))
    push = ConsumerConfig(durable_name=old, deliver_subject="push", ack_policy=AckPolicy.EXPLICIT)
    await declared.jetstream.add_consumer(old, push)
    unused, other = await check.troubles()
    assert matches(other, "wrong", f"durable {name}", "no other than the durable", f"nats consumer ls {name}")
    assert matches(unused, "warning", f"durable {old}", "deliver_subject not set", "what is not acked stays")
    bound = await declared.connection.subscribe("push")
    await declared.connection.flush()
    in_use, _ = await check.troubles()
    assert matches(in_use, "wrong", f"durable {old}", "stop the Go collector")
    await bound.unsubscribe()


async def test_streams_that_lose_or_are_somebody_elses(check: Check, declared: Ancestor) -> None:
    name = f"{declared.namespace}:logs:system"
    config = StreamConfig(
        name=name,
        subjects=[f"{declared.namespace}.logs.system"],
        max_age=60,
        max_bytes=1_000_000,
        discard=DiscardPolicy.OLD,
    )
    await declared.jetstream.update_stream(config.evolve(retention="workqueue"))
    await declared.put("theirs")
    await declared.jetstream.add_stream(name=f"{declared.namespace}:logs:theirs", subjects=["theirs"])
    age, full, retention, subjects = await check.troubles()
    assert matches(age, "warning", f"stream {name}", "max_age not set, got 60 s", f"nats stream edit {name}")
    assert matches(full, "warning", f"stream {name}", "max_bytes not set, or discard new, got 1000000")
    theirs = f"{declared.namespace}:logs:theirs"
    assert matches(retention, "wrong", f"stream {theirs}", "retention workqueue, got limits", "docs/runbooks.md")
    assert matches(subjects, "wrong", f"stream {theirs}", f"subjects {declared.namespace}.logs.theirs, got theirs")


async def test_a_declaration_that_cannot_be_read(check: Check, declared: Ancestor) -> None:
    await declared.put("bad", b"\xc1")
    (line,) = await check.troubles()
    assert matches(line, "wrong", "logger bad", "a logger spec", "transfer set bad --replace")
