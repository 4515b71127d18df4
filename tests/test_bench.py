from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from synth_async.bench.chart import Panel, chart_html, chart_svg, panels_of
from synth_async.bench.latency import RELATIVE_ERROR, LatencyHistogram
from synth_async.bench.measures import Second, binding, ramp_s, utilisation, whole_seconds
from synth_async.bench.plan import BenchPlan, embedded_config, is_loopback, paid_endpoints, would_send
from synth_async.bench.recorder import Recorder
from synth_async.bench.results import bench_result
from synth_async.bench.servers import server_log
from synth_async.bench.text import result_text
from synth_async.bench.traffic import Traffic
from synth_async.config.models import Endpoint as EndpointConfig
from synth_async.config.models import Simulation, Topics
from synth_async.config.secrets import ResolvedEndpoint, Secret
from synth_async.endpoint.service import Endpoint
from synth_async.errors import RateLimited, RequestRejected, TransientFailure
from synth_async.records import ChatRequest, Stage
from synth_async.testing import Delayed, ScriptedClient, Step, chat_body, run_in_virtual_time

ROOT = Path(__file__).parent.parent
ANSWER = chat_body("{}", prompt_tokens=20, completion_tokens=10)


# --- latency -------------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0, 50_000, allow_nan=False), min_size=1, max_size=200),
    st.floats(0.1, 100),
)
def test_percentiles_are_those_of_the_sorted_samples_within_the_stated_error(
    samples: list[float], percent: float
) -> None:
    """Nearest rank, off by half a per cent or half a microsecond at the most; count, mean and the ends are exact."""
    histogram = LatencyHistogram()
    for sample in samples:
        histogram.add(sample)
    exact = sorted(samples)[max(1, math.ceil(percent / 100 * len(samples) - 1e-9)) - 1]
    assert histogram.percentile(percent) == pytest.approx(exact, rel=RELATIVE_ERROR * 1.001, abs=5.1e-7)
    summary = histogram.summary()
    assert summary is not None
    assert (summary.count, summary.min_s, summary.max_s) == (len(samples), min(samples), max(samples))
    assert summary.mean_s == pytest.approx(sum(samples) / len(samples))
    assert summary.min_s <= summary.p50_s <= summary.p90_s <= summary.p95_s <= summary.p99_s <= summary.max_s


def test_the_memory_of_latencies_is_bounded() -> None:
    """From a nanosecond to a year, however fine the steps, there are at most 2,600 buckets."""
    histogram = LatencyHistogram()
    for step in range(60_000):
        histogram.add(1e-9 * 1.0008**step)
    assert histogram.count == 60_000
    assert 2_000 < histogram.buckets <= 2_600


def test_no_samples_have_no_summary() -> None:
    """An absence is said, not shown as 0."""
    assert LatencyHistogram().summary() is None


# --- utilisation and ramp ------------------------------------------------------------------------


@given(
    st.integers(1, 200),
    st.integers(3, 120),
    st.floats(0.01, 0.99),
    st.sampled_from([0.5, 0.89, 0.9, 1.0]),
)
def test_steady_traffic_uses_its_share_of_the_limit(per_second: int, length: int, offset: float, share: float) -> None:
    """The share is the same with a ramp or without; below 90 % there is no end of the ramp, and nothing after it.

    The server's seconds begin `offset` after ours, the first one before our begin.
    """
    limit = 60 * per_second / share
    seconds = [Second(number + offset - 1, per_second, 7 * per_second) for number in range(length + 1)]
    end_s = length + offset
    ramped = ramp_s(seconds, "requests", limit * (1 - 1e-12), end_s=end_s)
    used = utilisation(seconds, "requests", limit, end_s=end_s, ramped_at_s=ramped)
    assert used.accepted == per_second * (length + 1)
    assert used.whole == pytest.approx(share * (length + 1) / end_s)
    if share >= 0.9:
        assert ramped == pytest.approx(offset)
        assert used.after_ramp == pytest.approx(share)
    else:
        assert ramped is None
        assert used.after_ramp is None


def test_the_ramp_ends_with_the_first_second_that_brings_ninety_per_cent() -> None:
    """Later seconds below it do not bring it back; the second that is cut off at the end counts in the whole only."""
    seconds = [Second(float(number), amount, 10 * amount) for number, amount in enumerate((1, 5, 9, 10, 4, 10))]
    ramped = ramp_s(seconds, "requests", 600, end_s=5.5)
    assert ramped == 2.0
    used = utilisation(seconds, "requests", 600, end_s=5.5, ramped_at_s=ramped)
    assert used.whole == pytest.approx(39 / 55)
    assert used.after_ramp == pytest.approx(23 / 30)
    assert ramp_s(seconds, "tokens", 6000, end_s=5.5) == 2.0
    assert ramp_s(seconds, "requests", 600, end_s=2.9) is None


def test_seconds_without_traffic_count_as_such() -> None:
    """A gap is filled with zeros, a second that began before the measurement is left out, and so is a cut one."""
    seconds = [Second(-0.25, 3, 30), Second(0.75, 1, 10), Second(3.75, 2, 20)]
    found = whole_seconds(seconds, 5.5)
    assert [(each.start_s, each.requests) for each in found] == [(0.75, 1), (1.75, 0), (2.75, 0), (3.75, 2)]
    assert whole_seconds([], 10) == []


def test_the_binding_limit_is_the_one_that_is_used_most() -> None:
    """In shares, not in units; without limits there is none."""
    seconds = [Second(0.0, 10, 1000)]
    assert binding(seconds, {"requests": 600, "tokens": 120_000}) == "requests"
    assert binding(seconds, {"requests": 1200, "tokens": 60_000}) == "tokens"
    assert binding(seconds, {}) is None


def test_a_server_log_is_what_lies_between_two_readings() -> None:
    """What was accepted before the measurement is taken off, within the second in which it began too."""
    before = {"accepted_per_second": [[99, 5, 50], [100, 2, 20]], "requests": 8, "cpu_s": 1.0}
    rows = [[99, 5, 50], [100, 6, 70], [102, 1, 10]]
    after = {"accepted_per_second": rows, "requests": 13, "cpu_s": 1.5, "max_rss_bytes": 7}
    log = server_log(before, after, started_unix_s=100.5)
    assert log.seconds == (Second(-0.5, 4, 50), Second(1.5, 1, 10))
    assert (log.requests, log.cpu_s, log.max_rss_bytes) == (5, 0.5, 7)


# --- listening to an endpoint --------------------------------------------------------------------


def _recorded(script: Sequence[Step], *, asked: int = 1, rpm: float | None = None) -> tuple[Recorder, float]:
    """What is recorded of `asked` requests at once in virtual time, and how long it took."""
    settings = EndpointConfig(base_url="http://127.0.0.1:9/v1", model="m", rpm=rpm, token_accounting="reserved")
    endpoint = Endpoint("main", settings, ScriptedClient(list(script)), give_up_after_s=600, seed=1)

    async def main() -> tuple[Recorder, float]:
        recorder = Recorder(endpoint, anyio.current_time())
        request = ChatRequest("0" * 32, Stage.GENERATE, ({"role": "user", "content": "x"},), 0.8, 100, "text")

        async def ask() -> None:
            try:
                await endpoint.ask(request, lambda _: None)
            except RequestRejected:
                return

        async with anyio.create_task_group() as group:
            for _ in range(asked):
                group.start_soon(ask)
        return recorder, recorder.elapsed_s()

    return run_in_virtual_time(main)


def test_every_request_that_was_sent_is_told_with_its_outcome() -> None:
    """A 429, a failure, a refused spelling, a bad body, a refusal and an answer: each is one exchange."""
    spelling = RequestRejected("HTTP 400: unsupported 'max_tokens', use 'max_completion_tokens'", status=400)
    script: list[Step] = [
        ANSWER,
        RateLimited("HTTP 429", hint_s=1),
        TransientFailure("HTTP 503", kind="http_503"),
        spelling,
        b"<html>",
        RequestRejected("HTTP 422: no", status=422),
    ]
    statuses = _recorded(script[:1])[0].statuses
    assert statuses == {"answered": 1}
    recorder, _ = _recorded(script, asked=2)
    assert recorder.statuses == dict.fromkeys(("answered", "http_429", "http_503", "respelt", "body", "http_422"), 1)
    # The server took in the answered one, the failed one and the one with the bad body; tokens are known of the first.
    assert sum(second.requests for second in recorder.seconds()) == 3
    assert sum(second.tokens for second in recorder.seconds()) == 120


def test_latency_and_the_wait_for_the_limiter_are_told_apart() -> None:
    """At one request a second, the third waits for two, and for the first answer; its latency has none of that."""
    recorder, elapsed_s = _recorded([Delayed(ANSWER, 0.25)] * 3, asked=3, rpm=60)
    alone, waited = recorder.latency.summary(), recorder.latency_with_wait.summary()
    assert alone is not None
    assert waited is not None
    assert alone.count == 3
    assert [alone.min_s, alone.max_s] == pytest.approx([0.25, 0.25])
    assert waited.max_s == pytest.approx(elapsed_s)
    assert waited.max_s == pytest.approx(2.25, rel=0.01)


# --- what would be sent --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "stays"),
    [
        ("http://127.0.0.1:80/v1", True),
        ("http://127.9.9.9/v1", True),
        ("http://[::1]:80/v1", True),
        ("http://localhost/v1", True),
        ("http://10.0.0.1/v1", False),
        ("https://api.example.com/v1", False),
        ("https://localhost.example.com/v1", False),
        ("https://127.0.0.1.example.com/v1", False),
    ],
)
def test_only_loopback_stays_on_this_machine(url: str, *, stays: bool) -> None:
    """By address or by the name localhost, and never by a name that merely looks like one."""
    assert is_loopback(url) is stays


def _plan(*, client_only: bool = True, seconds: float | None = 30, requests: int | None = None) -> BenchPlan:
    loaded = embedded_config(Simulation(rpm=60, tpm=6000), max_tokens=64, max_in_flight=8)
    resolved = ResolvedEndpoint("embedded", "simulator", Secret("none"), loaded.config.endpoints["embedded"])
    return BenchPlan(loaded, {"embedded": resolved}, client_only, seconds, requests)


def test_requests_to_elsewhere_are_announced_with_their_number_tokens_and_price() -> None:
    """The simulator is free; half a minute at 600 RPM and 6,000 TPM is at most 300 requests and 3,000 tokens."""
    plan = _plan()
    assert paid_endpoints(plan) == []
    priced = EndpointConfig.model_validate(
        {"base_url": "https://api.example.com/v1", "model": "m", "rpm": 600, "tpm": 6000,
         "price": {"prompt": 100, "completion": 1000}}
    )  # fmt: skip
    away = ResolvedEndpoint("embedded", "https://api.example.com/v1", Secret("none"), priced)
    plan = replace(plan, resolved={"embedded": away})
    assert paid_endpoints(plan) == [away]
    told = would_send(plan, away)
    for part in ("300 requests", "3,000 tokens", "$3.00", "https://api.example.com/v1", "model m"):
        assert part in told
    assert "17 requests" in would_send(replace(plan, seconds=None, requests=17), away)


def test_the_target_is_out_of_reach_and_the_first_round_stays() -> None:
    """Time ends the run and not its target; the number of topics is that of the config."""
    plan = _plan(client_only=False, seconds=10)
    uncounted = plan.loaded.config.model_copy(update={"target": 10, "topics": Topics()})
    config = replace(plan, loaded=replace(plan.loaded, config=uncounted)).tireless().config
    assert config.target >= 10_000
    assert config.topic_count == uncounted.topic_count == 5


# --- what is shown -------------------------------------------------------------------------------

_HOSTILE = '<script>alert("&")</script> \x00 \x1b'


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e9)), max_size=30),
    st.none() | st.floats(1e-3, 1e9),
)
@example([(0.0, 5e-324)], None)
def test_the_chart_is_well_formed_whatever_it_shows(points: list[tuple[float, float]], limit: float | None) -> None:
    """Any figures and any text make XML that parses, with the text as text and no script."""
    panel = Panel(_HOSTILE, "requests", tuple(sorted(points)), limit)
    svg = chart_svg([panel, panel], title=_HOSTILE, simulated=True)
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    texts = [element.text or "" for element in root.iter() if element.tag.endswith("}text")]
    assert sum('<script>alert("&")</script>' in text for text in texts) == 3
    assert any("simulated endpoint" in text for text in texts)
    assert not any(element.tag.endswith("script") for element in root.iter())
    assert sum(text.startswith("limit ") for text in texts) == (0 if limit is None else 2)


def test_chart_and_page_ask_for_nothing_from_anywhere() -> None:
    """The one URL names the SVG namespace; both schemes of colours are there; a real endpoint is not marked."""
    panel = Panel("p", "requests", ((0.5, 1.0), (1.5, 2.0)), 3.0)
    svg = chart_svg([panel], title="t", simulated=False)
    page = chart_html(svg, title="t", table="a < b")
    for text in (svg, page):
        rest = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        for reference in ("http:", "https:", "//", "url(", "src=", "href", "@import", "<script", "simulated"):
            assert reference not in rest
        assert "prefers-color-scheme: dark" in text
    assert "a &lt; b" in page


def test_a_result_has_a_table_a_chart_and_plain_json() -> None:
    """The counts agree with one another in all three; without a server's log the client's own counts are said to be."""
    recorder, _ = _recorded([Delayed(ANSWER, 0.5)] * 9, asked=9, rpm=60)
    traffic = Traffic(recorders={"embedded": recorder}, sending_s=9.0, user_cpu_s=0.5, max_rss_bytes=2**20)
    result = bench_result(_plan(), traffic)
    (found,) = result.endpoints
    assert (found.attempts, found.answered, found.attempts_per_success, found.simulated) == (9, 9, 1.0, False)
    assert found.token_unit == "prompt + max_tokens"
    assert sum(second.requests for second in found.seconds) == 9
    assert found.utilisation[0].whole == pytest.approx(1.0, abs=0.12)
    shown = json.loads(json.dumps(result.as_json()))
    assert shown["endpoints"][0]["seconds"][0] == [0.0, found.seconds[0].requests, found.seconds[0].tokens]
    text = result_text(result)
    assert "our own counts" in text
    assert "simulated endpoint" not in text
    assert [panel.unit for panel in panels_of(result)] == ["requests", "tokens"]


# --- the verb ------------------------------------------------------------------------------------


def _bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.run(
        [sys.executable, "-m", "synth_async", "bench", *arguments],
        cwd=cwd, env=kept | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_an_endpoint_elsewhere_needs_a_yes(tmp_path: Path) -> None:
    """Without `--yes` it is exit 2 with what would be sent, and no request; the simulator's options are refused too."""
    endpoint = "endpoints: {main: {base_url: 'http://192.0.2.1:9/v1', model: far, rpm: 120}}\n"
    (tmp_path / "far.yaml").write_text(f"name: far\ndomain: d\nsystem_prompt: s\ntarget: 5\n{endpoint}")
    done = _bench("far.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    for part in ("60 requests", "http://192.0.2.1:9/v1", "Nothing was sent", "--yes"):
        assert part in done.stderr
    done = _bench("far.yaml", "--yes", "--rpm", "5", cwd=tmp_path)
    assert done.returncode == 2
    assert "--rpm" in done.stderr


def test_a_chart_of_another_kind_is_exit_2(tmp_path: Path) -> None:
    """It is told before anything is measured."""
    done = _bench("--chart", "out.png", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert ".svg or .html" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("what", [["--client"], []])
def test_a_short_measurement_agrees_with_the_server(tmp_path: Path, what: list[str]) -> None:
    """The client's answers are the server's accepted requests; shares, percentiles and outcomes add up."""
    done = _bench(
        *what, "--seconds", "3", "--latency", "0.05", "--tpm", "0", "--json", "--chart", "c.svg", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (one,) = found["endpoints"]
    assert found["simulated"]
    assert one["counted_by"] == "server log"
    assert sum(one["statuses"].values()) == one["attempts"]
    assert one["statuses"]["answered"] == one["answered"] == one["latency"]["count"]
    assert sum(requests for _, requests, _ in one["seconds"]) == one["answered"]
    (used,) = one["utilisation"]
    assert used["accepted"] == one["answered"]
    assert used["whole"] == pytest.approx(one["answered"] / (50 * one["sending_s"]))
    assert one["latency"]["min_s"] <= one["latency_with_wait"]["max_s"]
    assert found["client"]["cpu_ms_per_request"] > 0
    assert one["server"]["max_rss_bytes"] > 0
    ET.parse(tmp_path / "c.svg")  # noqa: S314 - our own file
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.svg"]


@pytest.mark.slow
def test_a_measurement_without_an_answer_is_exit_4(tmp_path: Path) -> None:
    """The figures are shown all the same, and what came instead is named."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    endpoint = f"endpoints: {{main: {{base_url: 'http://127.0.0.1:{port}/v1', model: m}}}}\n"
    (tmp_path / "gone.yaml").write_text(f"name: gone\ndomain: d\nsystem_prompt: s\ntarget: 5\n{endpoint}")
    done = _bench("gone.yaml", "--client", "--seconds", "1", cwd=tmp_path)
    assert done.returncode == 4
    assert "main: connect" in done.stderr
    assert "none declared" in done.stdout


@pytest.mark.slow
def test_a_number_of_requests_is_sent_exactly(tmp_path: Path) -> None:
    """The client alone asks so many, each until it is answered."""
    done = _bench("--client", "--requests", "40", "--rpm", "0", "--tpm", "0", "--latency", "0", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)["endpoints"]
    assert (one["attempts"], one["answered"], one["utilisation"]) == (40, 40, [])
