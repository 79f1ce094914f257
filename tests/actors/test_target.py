"""What a pipeline does at the word of its target: it leaves and comes back, or drops all that it holds."""

from __future__ import annotations

from anyio import Event

from collector.events import State
from tests.actors.test_pipeline import playing
from tests.support.fakes import ANOTHER_LIFE, ATTACHED, KEY, FakeSink, FakeSource, delivery, settled


async def test_a_target_that_has_to_be_left_is_written_into_to_the_end_and_opened_again() -> None:
    sink = FakeSink()
    async with playing(sink=sink) as scene:
        await scene.asked()
        sink.let_write = Event()
        scene.link.deliver(delivery(1))
        await sink.writing.wait()
        scene.destination.targets[0].leaving.set()
        await settled()
        assert scene.destination.ends == []
        sink.let_write.set()
        await scene.asked(2)
        assert scene.destination.ends == ["closed"]
        assert len(scene.destination.targets) == 2
    assert scene.answers(b"+ACK") == {delivery(1).reply}
    assert scene.states == [State.RUNNING, State.DRAINING] * 2


async def test_of_a_target_that_is_lost_everything_is_dropped_without_an_answer() -> None:
    sink = FakeSink()
    async with playing(sink=sink) as scene:
        await scene.asked()
        sink.let_write = Event()
        scene.link.deliver(delivery(1), delivery(2))
        await sink.writing.wait()
        scene.destination.targets[0].lost.set()
        await scene.asked(2)
        assert (scene.destination.ends, scene.link.answers) == (["lost"], [])
        sink.let_write.set()
    assert scene.link.answers == []


async def test_only_behind_a_target_that_stood_by_the_stream_is_looked_at_again_before_anything_is_pulled() -> None:
    for stood_by, looks in ((False, 1), (True, 2)):
        source = FakeSource(ATTACHED)
        async with playing(source) as scene:
            await scene.asked()
            asked, scene.destination.stood_by = source.looks, stood_by
            scene.destination.targets[0].leaving.set()
            await scene.asked(2)
            assert source.looks - asked == looks


async def test_a_stream_that_was_made_anew_while_its_target_stood_by_is_not_pulled() -> None:
    source = FakeSource(ATTACHED)
    async with playing(source) as scene:
        await scene.asked()
        scene.destination.stood_by = True
        source.answers = [ATTACHED, ANOTHER_LIFE]
        scene.destination.targets[0].leaving.set()
        await scene.asked(2)
        assert scene.destination.ends == ["closed", "closed"]
        scene.link.deliver(delivery(1))
        await scene.until_settled()
    assert scene.sink.writes[0][0].document["_id"] == ANOTHER_LIFE.incarnation.identity(1)


async def test_a_pipeline_asks_for_the_destination_of_its_spec_once() -> None:
    async with playing() as scene:
        await scene.asked()
        scene.destination.targets[0].leaving.set()
        await scene.asked(2)
    assert [spec.key for spec in scene.destination.opened_with] == [KEY]
