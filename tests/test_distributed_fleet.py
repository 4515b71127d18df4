"""Workers that come, ask, and are lost: what the driver sees of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from crew import Crew, tick

from synth_async.distributed.fleet import Fleet
from synth_async.distributed.partition import worker_for
from synth_async.distributed.wire import Head
from synth_async.endpoint.client import ChatClient, HttpAnswer
from synth_async.endpoint.service import WORKER_LOST
from synth_async.errors import RequestRejected, StoppedEarly, TransientFailure
from synth_async.store.segments import worker_lines
from synth_async.testing import Delayed, ScriptedClient, chat_body, run_in_virtual_time


def _head(number: int, attempt: int = 1) -> Head:
    return Head(
        f"{number * 0x9E3779B97F4A7C15 % 2**128:032x}", "answer-generate", {"attempt": attempt, "endpoint": "e"}
    )


def _echo(delay_s: float = 1.0) -> Callable[[int], ChatClient]:
    return lambda _: ScriptedClient(lambda body: Delayed(chat_body(body["text"]), delay_s))


@asynccontextmanager
async def _crew(
    client: Callable[[int], ChatClient], folder: Path | None, size: int
) -> AsyncIterator[tuple[Crew, Fleet]]:
    async with anyio.create_task_group() as group:
        crew = Crew(group, client, folder)
        fleet = crew.fleet(size)
        await fleet.start()
        group.start_soon(fleet.run)
        group.start_soon(tick)
        yield crew, fleet
        group.cancel_scope.cancel()


async def _ask(fleet: Fleet, number: int) -> HttpAnswer | Exception:
    try:
        return await fleet.exchange("e", b'{"text":"%d"}' % number, _head(number))
    except (TransientFailure, RequestRejected, StoppedEarly) as error:
        return error


async def _ask_all(fleet: Fleet, count: int) -> list[HttpAnswer | Exception]:
    found: list[HttpAnswer | Exception] = [ValueError()] * count

    async def ask(number: int) -> None:
        found[number] = await _ask(fleet, number)

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(ask, number)
    return found


def test_each_reply_goes_to_who_asked_and_requests_travel_in_blocks(tmp_path: Path) -> None:
    """Two hundred at once are two calls, each by the worker of its key; every answer is journaled where it came."""

    async def main() -> None:
        async with _crew(_echo(), tmp_path, 2) as (crew, fleet):
            found = await _ask_all(fleet, 200)
            bodies = [each.body for each in found if isinstance(each, HttpAnswer)]
            assert bodies == [chat_body(str(number)) for number in range(200)]
            assert all(isinstance(each, HttpAnswer) and each.is_kept for each in found)
            assert [len(worker.blocks) for worker in crew.workers] == [1, 1]
            for number, worker in enumerate(crew.workers):
                theirs = {_head(each).key for each in range(200) if worker_for(_head(each).key, [0, 1]) == number}
                worker.kill()
                lines = [line for line in worker_lines(tmp_path, worker.name) if b"answer-" in line]
                assert {line[15:47].decode() for line in lines} == theirs

    run_in_virtual_time(main)


def test_where_the_folder_is_elsewhere_the_driver_has_to_keep_the_answers(tmp_path: Path) -> None:
    """A worker without a journal says so with each answer."""

    async def main() -> None:
        async with _crew(_echo(), None, 2) as (_, fleet):
            found = await _ask_all(fleet, 10)
            assert all(isinstance(each, HttpAnswer) and not each.is_kept for each in found)

    run_in_virtual_time(main)
    assert not list(tmp_path.iterdir())


def test_what_a_lost_worker_had_journaled_counts_as_replied(tmp_path: Path) -> None:
    """Killed before it could reply: its answers come from its journal, what it was still asking is nobody's failure."""

    def client(_: int) -> ChatClient:
        return ScriptedClient(lambda body: Delayed(chat_body(body["text"]), 1.0 if int(body["text"]) % 2 else 50.0))

    async def main() -> None:
        async with _crew(client, tmp_path, 2) as (crew, fleet):
            lost = crew.workers[0]

            async def kill() -> None:
                # Answered at 1.005 s; the replies wait for others until 1.015 s.
                await anyio.sleep(1.01)
                lost.kill()

            async with anyio.create_task_group() as group:
                group.start_soon(kill)
                found = await _ask_all(fleet, 100)
            theirs = [number for number in range(100) if worker_for(_head(number).key, [0, 1]) == 0]
            for number, answer in enumerate(found):
                if number in theirs and number % 2 == 0:
                    assert isinstance(answer, TransientFailure)
                    assert answer.kind == WORKER_LOST
                else:
                    assert isinstance(answer, HttpAnswer)
                    assert (answer.body, answer.is_kept) == (chat_body(str(number)), True)
            odd = sum(number % 2 for number in theirs)
            assert f"{odd} answers found in its journal, {len(theirs) - odd} requests are sent again" in crew.notes[0]
            assert [worker.name for worker in crew.workers] == ["crew-0", "crew-1", "crew-2"]
            assert sorted(worker.name for worker in fleet.workers) == ["crew-1", "crew-2"]

    run_in_virtual_time(main)


def test_what_a_lost_worker_was_not_sent_goes_to_another(tmp_path: Path) -> None:
    """A question that waits in the outbox of a worker that dies is asked by one that lives, once."""
    clients: list[ScriptedClient] = []

    def client(_: int) -> ChatClient:
        clients.append(ScriptedClient(lambda body: Delayed(chat_body(body["text"]), 1.0)))
        return clients[-1]

    async def main() -> None:
        async with _crew(client, tmp_path, 2) as (crew, fleet):
            crew.workers[0].kill()
            assert all(isinstance(each, HttpAnswer) for each in await _ask_all(fleet, 50))

    run_in_virtual_time(main)
    assert sorted(int(body["text"]) for client in clients for body in client.bodies) == list(range(50))


def test_without_any_worker_questions_wait_for_the_next_and_then_the_run_ends(tmp_path: Path) -> None:
    """One that can be had after a while takes them over; where none comes in three attempts, the run stops."""

    async def main(refused: set[int]) -> list[HttpAnswer | Exception]:
        async with _crew(_echo(), tmp_path, 1) as (crew, fleet):
            crew.refusals = refused
            crew.workers[0].kill()
            await anyio.sleep(0.1)
            return await _ask_all(fleet, 3)

    assert all(isinstance(each, HttpAnswer) for each in run_in_virtual_time(main, {1, 2}))
    stopped = run_in_virtual_time(main, {1, 2, 3})
    assert [type(each) for each in stopped] == [StoppedEarly] * 3


def test_what_ends_every_worker_ends_the_run(tmp_path: Path) -> None:
    """Twenty are lost over one question and not one answers: it is not paid for for ever."""
    asked: list[int] = []

    async def main() -> HttpAnswer | Exception:
        async with _crew(_echo(50.0), tmp_path, 1) as (crew, fleet):

            async def kill_all() -> None:
                for number in range(20):
                    await crew.until_asked(number)
                    asked.append(number)
                    crew.workers[number].kill()

            async with anyio.create_task_group() as group:
                group.start_soon(kill_all)
                while True:
                    answer = await _ask(fleet, 1)
                    if not isinstance(answer, TransientFailure):
                        return answer
        raise AssertionError("left without an answer")

    stopped = run_in_virtual_time(main)
    assert isinstance(stopped, StoppedEarly)
    assert len(asked) == 20


def test_a_fleet_without_a_single_worker_does_not_start(tmp_path: Path) -> None:
    """What kept the first one from coming is said."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            crew = Crew(group, _echo(), tmp_path, refusals={0, 1})
            with pytest.raises(StoppedEarly, match="no room"):
                await crew.fleet(2).start()

    run_in_virtual_time(main)


def test_errors_of_an_exchange_and_its_deadline_reach_who_asked(tmp_path: Path) -> None:
    """A refusal is a refusal; an answer that does not come within the worker's deadline is a timeout."""

    def client(_: int) -> ChatClient:
        return ScriptedClient(
            lambda body: RequestRejected("too long", status=413) if body["text"] == "0" else Delayed(b"", 1e9)
        )

    async def main() -> list[HttpAnswer | Exception]:
        async with _crew(client, tmp_path, 1) as (_, fleet):
            return await _ask_all(fleet, 2)

    rejected, late = run_in_virtual_time(main)
    assert isinstance(rejected, RequestRejected)
    assert rejected.status == 413
    assert isinstance(late, TransientFailure)
    assert late.kind == "timeout"


def test_an_asker_that_leaves_before_the_block_does_is_not_asked_for(tmp_path: Path) -> None:
    """A stop of the run takes what was not sent with it."""
    asked = ScriptedClient(lambda body: Delayed(chat_body(body["text"]), 1.0))

    async def main() -> None:
        async with _crew(lambda _: asked, tmp_path, 1) as (_, fleet):
            with anyio.move_on_after(0.001):
                await _ask(fleet, 0)
            await anyio.sleep(10)

    run_in_virtual_time(main)
    assert asked.bodies == []


def test_new_connections_are_asked_of_every_worker(tmp_path: Path) -> None:
    """After a sleep of the driver, old connections may be dead on all of them."""
    clients: list[ScriptedClient] = []

    def client(_: int) -> ChatClient:
        clients.append(ScriptedClient([]))
        return clients[-1]

    async def main() -> None:
        async with _crew(client, tmp_path, 3) as (_, fleet):
            fleet.renew()
            await anyio.sleep(1)

    run_in_virtual_time(main)
    assert [client.renewals for client in clients] == [1, 1, 1]
