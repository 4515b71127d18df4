"""Runs that revise, or ask for several replies, really killed: what was paid for is asked for once all the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson
import pytest
from disturbed_run import MIX, DisturbedRun, disturbed_run
from scripted_endpoint import Asked, Reply, choice, dataset_of, scores, usual_reply, words

_WEAK = "zeluda"


def _share(asked: Asked) -> float:
    # not the digits by which faults are dealt out
    return int(hashlib.md5(asked.name.encode(), usedforsecurity=False).hexdigest()[:8], 16) / 2**32


def _often_almost_good(asked: Asked) -> Reply:
    return Reply(scores(3.5 if _share(asked) < 0.5 else 5)) if asked.kind == "judge" else usual_reply(asked)


def _often_apart(asked: Asked) -> Reply:
    if asked.kind == "reply" and asked.model == "weaker":
        return Reply(f"{_WEAK} {words(asked.name, 40)}.")
    if asked.kind == "judge":
        return Reply(scores(2 if _WEAK in asked.text and _share(asked) < 0.7 else 4.5))
    if asked.kind == "compare":
        return Reply(choice("b" if f'"reply_a":"{_WEAK}' in asked.text else "a"))
    return usual_reply(asked)


def _with_a_weaker_endpoint(run: DisturbedRun, mode: str) -> None:
    """Half of the requests in flight for each of two endpoints."""
    tree = orjson.loads(run.config.read_bytes())
    only = {**tree["endpoints"]["only"], "max_in_flight": 8}
    tree["endpoints"] = {"only": only, "weaker": {**only, "model": "weaker"}}
    tree |= {"topics": {"endpoint": "only"}, "generation": {"endpoint": "only"}, "mode": "preference"}
    tree["judge"] = {"criteria": ["quality"], "endpoint": "only", "mode": mode}
    tree["preference"] = {"samples": 2, "rejected_endpoint": "weaker"}
    run.config.write_bytes(orjson.dumps(tree))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [11, 12])
def test_a_run_that_revises_survives_kills(tmp_path: Path, seed: int) -> None:
    """After four SIGKILLs at random instants: exactly N examples, no revision or verdict paid for twice."""
    with disturbed_run(tmp_path, MIX, target=200, seed=seed, usual=_often_almost_good, revise=1) as run:
        for _ in range(4):
            run.kill(run.chance.randrange(3, 120))
        run.finish(200)
        assert run.endpoint.count("revise") > 30
    revised = [line for line in dataset_of(run.run) if line["metadata"].get("revised")]
    assert len(revised) > 10


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["score", "pairwise"])
def test_a_run_of_preferences_survives_kills(tmp_path: Path, mode: str) -> None:
    """After four SIGKILLs at random instants: exactly N pairs, no reply, verdict or comparison paid for twice."""
    with disturbed_run(tmp_path, MIX, target=120, seed=13, usual=_often_apart) as run:
        _with_a_weaker_endpoint(run, mode)
        for _ in range(4):
            run.kill(run.chance.randrange(3, 150))
        run.finish(120)
    lines = dataset_of(run.run)
    assert all(line["rejected"][0]["content"] != line["messages"][-1]["content"] for line in lines)
    assert {line["metadata"]["rejected"]["model"] for line in lines} >= {"weaker"}
