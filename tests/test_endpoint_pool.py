"""Several endpoints behind one stage: work goes where it is sent soonest, and one that fails stops nothing."""

from __future__ import annotations

import anyio
import pytest

from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.endpoint.pool import EndpointPool
from synth_async.endpoint.service import Endpoint
from synth_async.errors import EndpointRefused, RateLimited, TransientFailure
from synth_async.records import ChatRequest, Stage
from synth_async.testing import ScriptedClient, chat_body, run_in_virtual_time


def _request(number: int = 0) -> ChatRequest:
    return ChatRequest(f"{number:032x}", Stage.GENERATE, ({"role": "user", "content": "hi"},), 0.8, 64, "text")


def _member(name: str, client: ScriptedClient, **settings: object) -> Endpoint:
    config = EndpointConfig.model_validate({"model": "m", "base_url": "http://host/v1", **settings})
    return Endpoint(name, config, client, give_up_after_s=3600, seed=1)


async def _ask_many(pool: EndpointPool, count: int) -> list[str]:
    served: list[str] = []

    async def one(number: int) -> None:
        _, name = await pool.ask(_request(number), lambda _name, _body: None)
        served.append(name)

    async with anyio.create_task_group() as asking:
        for number in range(count):
            asking.start_soon(one, number)
    return served


def test_work_is_shared_by_what_each_endpoint_can_take() -> None:
    """Of two endpoints the one with three times the rate serves three times the requests."""

    async def main() -> list[str]:
        clients = [ScriptedClient(lambda _: chat_body("ok"), delay_s=0.5) for _ in range(2)]
        members = [_member("slow", clients[0], rpm=60), _member("fast", clients[1], rpm=180)]
        return await _ask_many(EndpointPool(members), 200)

    served = run_in_virtual_time(main)
    assert len(served) == 200
    assert 130 <= served.count("fast") <= 170


def test_what_stands_in_the_line_of_an_endpoint_that_goes_away_is_served_elsewhere() -> None:
    """An endpoint that stops answering loses its line to the other, long before it comes back."""

    async def main() -> tuple[list[str], float]:
        answered = 0

        def failing(_: object) -> bytes | TransientFailure:
            nonlocal answered
            answered += 1
            if answered <= 3:
                return chat_body("ok")
            return TransientFailure("connection refused", kind="connect", connected=False)

        broken = _member("broken", ScriptedClient(failing, delay_s=0.2), max_in_flight=4)
        sound = _member("sound", ScriptedClient(lambda _: chat_body("ok"), delay_s=0.2), max_in_flight=4)
        served = await _ask_many(EndpointPool([broken, sound]), 300)
        return served, anyio.current_time()

    served, took_s = run_in_virtual_time(main)
    assert len(served) == 300
    assert served.count("broken") == 3
    assert took_s < 120


def test_a_long_pause_of_one_endpoint_sends_its_line_to_the_other() -> None:
    """A 429 that asks for a minute is waited for by nobody who can go elsewhere."""

    async def main() -> tuple[list[str], float]:
        limited = ScriptedClient(lambda _: RateLimited("HTTP 429", hint_s=60.0), delay_s=0.1)
        members = [_member("limited", limited), _member("free", ScriptedClient(lambda _: chat_body("ok"), delay_s=0.1))]
        return await _ask_many(EndpointPool(members), 100), anyio.current_time()

    served, took_s = run_in_virtual_time(main)
    assert set(served) == {"free"}
    assert took_s < 30


def test_an_endpoint_that_refuses_for_good_is_left_out_and_the_last_one_ends_the_run() -> None:
    """A quota that is used up takes one endpoint out; with the other gone too, its refusal is raised."""

    async def main() -> tuple[list[str], list[str]]:
        def refusing(name: str) -> ScriptedClient:
            return ScriptedClient(lambda _: EndpointRefused(f"{name}: no quota"))

        sound = ScriptedClient([chat_body("ok")] * 5 + [EndpointRefused("sound: no quota")])
        pool = EndpointPool([_member("empty", refusing("empty")), _member("sound", sound, max_in_flight=1)])
        served = await _ask_many(pool, 5)
        with pytest.raises(EndpointRefused, match="sound: no quota"):
            await pool.ask(_request(9), lambda _name, _body: None)
        return served, sorted(pool.over)

    served, over = run_in_virtual_time(main)
    assert served == ["sound"] * 5
    assert over == ["empty", "sound"]


def test_an_answer_is_kept_under_the_name_of_the_endpoint_that_gave_it() -> None:
    """The journal records who served a request."""

    async def main() -> list[tuple[str, bytes]]:
        kept: list[tuple[str, bytes]] = []
        pool = EndpointPool([_member("only", ScriptedClient([chat_body("ok")]))])
        await pool.ask(_request(), lambda name, body: kept.append((name, body)))
        return kept

    assert run_in_virtual_time(main) == [("only", chat_body("ok"))]
