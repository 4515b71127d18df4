"""A budget is never passed: by the server's own count, over faults, stops and further processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    config_of,
    dataset_of,
    drive,
    scripted_endpoint,
    truth_of,
    usual_reply,
)

from synth_async.config import load_config
from synth_async.errors import ConfigError, ExitCode, StoppedEarly

TOKENS = 15
"""What the scripted endpoint charges for every answer."""

PRICE = {"prompt": 1000.0, "completion": 2000.0}
USD = (10 * 1000 + 5 * 2000) / 1e6


def _tree(endpoint: ScriptedEndpoint, budget: dict[str, Any], **changes: Any) -> dict[str, Any]:
    sections: dict[str, Any] = {
        "budget": budget,
        "target": 400,
        "topics": {"max_tokens": 20},
        "generation": {"max_tokens": 20},
        "judge": {"criteria": ["quality"], "max_tokens": 20},
    }
    return config_of(endpoint, endpoints__price=PRICE, **{**sections, **changes})


def _frames(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "run" / "journal-000001.log").read_bytes().splitlines()
    return [fields for line in lines if (fields := orjson.loads(line[9:]))["t"] == kind]


@pytest.mark.parametrize(("budget", "each"), [({"tokens": 9000}, TOKENS), ({"usd": 12.0}, USD), ({"requests": 60}, 1)])
def test_a_run_stops_before_its_budget_would_be_passed(tmp_path: Path, budget: dict[str, float], each: float) -> None:
    """Exit 4 with what was spent; the answers, counted by the server, cost no more, and most of the budget was used."""
    ((name, limit),) = budget.items()
    with scripted_endpoint() as endpoint:
        tree = _tree(endpoint, budget)
        with pytest.raises(StoppedEarly, match=r"the budget is spent: .* raise budget") as stopped:
            drive(tmp_path, tree)
        assert stopped.value.exit_code is ExitCode.STOPPED_EARLY
        assert len(endpoint.answered) * each <= limit
        found = orjson.loads((tmp_path / "run" / "metrics.json").read_bytes())["budget"][name]
        assert found == {"limit": limit, "spent": pytest.approx(len(endpoint.answered) * each)}
        sent = endpoint.count()
        with pytest.raises(StoppedEarly, match="the budget is spent"):
            drive(tmp_path, tree)
        assert endpoint.count() == sent
        one_more = max(lease["tokens"] if name == "tokens" else lease["usd"] for lease in _frames(tmp_path, "lease"))
        assert len(endpoint.answered) * each + (1 if name == "requests" else one_more) > limit


def test_a_higher_budget_goes_on(tmp_path: Path) -> None:
    """What was spent before counts; the run ends with its target, and again changes nothing."""
    with scripted_endpoint() as endpoint:
        tree = _tree(endpoint, {"requests": 20}, target=20)
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        run = drive(tmp_path, {**tree, "budget": {"requests": 200}})
        assert len(dataset_of(tmp_path / "run")) == 20
        assert run.metrics["budget"]["requests"]["spent"] == endpoint.count()
        before, sent = truth_of(tmp_path / "run"), endpoint.count()
        drive(tmp_path, {**tree, "budget": {"requests": 200}})
        assert (truth_of(tmp_path / "run"), endpoint.count()) == (before, sent)


def test_every_request_is_leased_before_it_is_sent(tmp_path: Path) -> None:
    """When a request reaches the server, the journal holds its lease; each is closed by an answer or a release."""
    open_leases: list[int] = []

    def look(_: Asked) -> None:
        open_leases.append(len(_frames(tmp_path, "lease")))

    with scripted_endpoint() as endpoint:
        endpoint.on_request = look
        drive(tmp_path, _tree(endpoint, {"requests": 1000}, target=10))
        assert all(leases >= sent for sent, leases in enumerate(open_leases, start=1))
        leases = {lease["n"] for lease in _frames(tmp_path, "lease")}
        answers = [frame for stage in ("topics", "generate", "judge") for frame in _frames(tmp_path, f"answer-{stage}")]
        closed = [*(each["lease"] for each in answers), *(each["n"] for each in _frames(tmp_path, "release"))]
        assert sorted(closed) == sorted(leases)


def test_a_request_that_may_have_been_charged_counts_as_spent(tmp_path: Path) -> None:
    """A connection that was reset costs its whole lease, a 500 costs nothing but the request."""
    faults = {1: Reply(fault="reset"), 2: Reply(status=500)}

    def reply(asked: Asked) -> Reply:
        return faults.get(asked.time, usual_reply(asked)) if asked.kind == "generate" else usual_reply(asked)

    with scripted_endpoint(reply) as endpoint:
        run = drive(tmp_path, _tree(endpoint, {"tokens": 10**6}, target=1, judge=None))
        lost = [each["tokens"] for each in _frames(tmp_path, "release") if each["tokens"]]
        assert len(lost) == sum(asked.time == 1 for asked in endpoint.asked if asked.kind == "generate")
        assert run.metrics["budget"]["tokens"]["spent"] == len(endpoint.answered) * TOKENS + sum(lost)


def test_a_lease_that_was_left_open_counts_as_spent(tmp_path: Path) -> None:
    """A journal that ends in the middle of requests, as after a kill, has spent what they could have taken."""
    with scripted_endpoint() as endpoint:
        tree = _tree(endpoint, {"tokens": 4000})
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        journal = tmp_path / "run" / "journal-000001.log"
        lines = journal.read_bytes().splitlines(keepends=True)
        cut = next(place for place, line in enumerate(lines) if b'"t":"lease"' in line and place > len(lines) // 2)
        journal.write_bytes(b"".join(lines[: cut + 1]))
        kept = [orjson.loads(line[9:]) for line in lines[: cut + 1]]
        answered = {frame["lease"] for frame in kept if "lease" in frame and frame["t"].startswith("answer")}
        still_open = [frame for frame in kept if frame["t"] == "lease" and frame["n"] not in answered]
        spent = len(answered) * TOKENS + sum(frame["tokens"] for frame in still_open)
        before = len(endpoint.answered)
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        assert still_open
        assert spent + (len(endpoint.answered) - before) * TOKENS <= 4000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budget": {"usd": 1}, "endpoints__price": None}, "budget.usd: endpoints.only has no price"),
        ({"budget": {"tokens": 1}, "generation": {"max_tokens": None}}, "generation.max_tokens is needed"),
        ({"budget": {"usd": 0}}, "budget.usd: must be above 0"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Without a price, or with answers of any length, nobody can say what a request may cost."""
    path = tmp_path / "config.yaml"
    path.write_bytes(orjson.dumps(config_of(ScriptedEndpoint(base_url="http://127.0.0.1/v1"), **changes)))
    with pytest.raises(ConfigError, match=message):
        load_config(path)
