"""The status page in a real headless Chromium, of a real replica."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.support.ancestor import ancestor, entry, text
from tests.support.browser import Browser, browser
from tests.support.system_packages import needs
from tests.support.waiting import state, until
from transfer.jetstream.streams import ensure_bucket
from transfer.names import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from collector.local import NatsServer, Replica

pytestmark = [pytest.mark.timeout(300), needs("chromium", "chromedriver")]
ATTACK = "<img src=x onerror=document.title=666>"
POISON = b"\xc1 is no msgpack"
ROW = "[...document.querySelectorAll('tbody')].find(one => one.querySelector('.name').innerText === arguments[0])"


async def declare(url: str, namespace: str, *keys: str) -> None:
    async with ancestor(url, namespace) as go:
        await ensure_bucket(go.jetstream, Names(namespace))
        await go.declare(*keys)


async def play(replica: Replica, url: str, namespace: str) -> None:
    """Have a logger that works, one without a stream, and one whose declaration attacks the page."""
    async with ancestor(url, namespace) as go:
        await go.put("streamless")
        await go.put("attack", b"\x82" + text("key") + text(ATTACK) + text("description") + text(""))
        await go.publish("system", [*(entry(number) for number in range(20)), POISON])
    wanted = {"system": "running", "streamless": "backing_off", "attack": "parked"}
    await until(lambda: {key: state(replica, key) for key in wanted} == wanted, 20)
    await until(lambda: bool(replica.status["loggers"]["system"]["lag_messages"] == 0), 20)


@pytest.fixture
def replica(start_replica: Callable[..., Replica], nats_server: NatsServer, namespace: str) -> Replica:
    anyio.run(declare, nats_server.url, namespace, "system")
    started = start_replica(COLLECTOR_LAG_PERIOD="200ms")
    anyio.run(play, started, nats_server.url, namespace)
    return started


def words(window: Browser, selector: str) -> str:
    return str(window.run("return document.querySelector(arguments[0]).innerText", selector))


def row(window: Browser, key: str) -> str:
    return str(window.run(f"return {ROW}.innerText", key))


def test_it_shows_every_logger_with_its_curves_and_the_tree_and_asks_nobody_else(
    replica: Replica, namespace: str
) -> None:
    with browser() as window:
        window.go(replica.url)
        window.until("document.querySelectorAll('#loggers tbody').length === 3")
        window.until(f"{ROW}.querySelector('svg path').getAttribute('d')", "system")
        assert words(window, "h1") == namespace
        assert words(window, "#ready") == "ready"
        assert words(window, "#servers").split() == ["NATS", "connected", "MongoDB", "connected"]
        assert row(window, "system").split()[:3] == ["system", "running", "0"]
        assert "backing off" in row(window, "streamless")
        assert "stream not found" in row(window, "streamless")
        tiles = words(window, "#tiles").splitlines()
        assert tiles[tiles.index("dead letters") + 1] == "1"
        assert tiles[tiles.index("lag, 1 of 3 known") + 1] == "0"
        assert "buffer of 64.0 MiB" in tiles
        assert tiles[tiles.index("age of a batch") + 1] == "0.1 s"
        tree = words(window, "#tree").splitlines()
        actors = ["owners", "upkeep", "registry", "sampler", "storage", "presence", "pipelines"]
        assert [line.split()[0] for line in tree] == ["root", *actors, "attack", "streamless", "system"]
        assert tree[-1].split(maxsplit=1)[1] == "running"
        asked = window.run("return performance.getEntriesByType('resource').map(resource => resource.name)")
        assert set(asked) == {f"{replica.url}/status"}
        assert window.console() == []


def test_texts_of_others_are_shown_and_not_obeyed(replica: Replica) -> None:
    with browser() as window:
        window.go(replica.url)
        window.until("document.querySelectorAll('#loggers tbody').length === 3")
        assert ATTACK in row(window, "attack")
        assert window.run("return document.images.length") == 0
        assert "666" not in window.run("return document.title")
        assert window.console() == []


def test_it_is_readable_in_the_dark_and_fits_a_phone(replica: Replica) -> None:
    grounds = []
    for dark in (False, True):
        with browser(width=375, height=812, dark=dark) as window:
            window.go(replica.url)
            window.until("document.querySelectorAll('#loggers tbody').length === 3")
            assert window.run("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
            assert window.run(f"return {ROW}.getBoundingClientRect().right <= 375", "attack")
            style = window.run("const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]")
            ground, ink = (sum(int(part) for part in colour[4:-1].split(",")) for colour in style)
            assert abs(ground - ink) > 400, "text stands out from its ground"
            grounds.append(ground)
    light, night = grounds
    assert light > 600
    assert night < 150


def test_the_filter_leaves_what_is_looked_for(replica: Replica) -> None:
    with browser() as window:
        window.go(replica.url)
        window.until("document.querySelectorAll('#loggers tbody').length === 3")
        script = (
            "const f = document.getElementById('filter'); f.value = arguments[0]; f.dispatchEvent(new Event('input'))"
        )
        window.run(script, "PARK")
        shown = "[...document.querySelectorAll('#loggers tbody:not([hidden]) .name')].map(name => name.textContent)"
        assert window.run(f"return {shown}") == ["attack"]
        assert words(window, "#count") == "1 of 3"


def test_it_follows_what_changes_and_says_when_the_replica_does_not_answer(
    replica: Replica, nats_server: NatsServer, namespace: str
) -> None:
    with browser() as window:
        window.go(replica.url)
        window.until("document.querySelectorAll('#loggers tbody').length === 3")
        anyio.run(declare, nats_server.url, namespace, "later")
        window.until(f"{ROW} !== undefined", "later")
        replica.kill()
        window.until("document.querySelector('main.stale')")
        assert "does not answer" in words(window, "#trouble")
        assert row(window, "system").startswith("system")


def test_what_a_page_of_a_thousand_loggers_costs_grows_with_their_number(replica: Replica) -> None:
    """The least of five drawings of 1,000 loggers takes no more than 40 times as long as that of 100."""
    drawn = """
        const one = last.loggers.system;
        const seconds = (count) => {
            const loggers = {};
            for (let number = 0; number < count; number++) loggers[`logger${number}`] = one;
            const took = [1, 2, 3, 4, 5].map(() => {
                const started = performance.now();
                show({...last, loggers});
                document.body.getBoundingClientRect();
                return performance.now() - started;
            });
            return Math.min(...took);
        };
        return [seconds(100), seconds(1000)];
    """
    with browser() as window:
        window.go(replica.url)
        window.until("document.querySelectorAll('#loggers tbody').length === 3")
        hundred, thousand = window.run(drawn)
    assert thousand < 40 * hundred
