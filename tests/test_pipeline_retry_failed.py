"""`--retry-failed`: what the endpoint refused for good is asked again, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    config_of,
    dataset_of,
    drive,
    names_in_journal,
    rejects_of,
    scores,
    scripted_endpoint,
    truth_of,
    usual_reply,
)

from synth_async.errors import EndpointRefused, StoppedEarly

_TOPICS = [f"case {number}" for number in range(8)]


def _config(folder: Path, endpoint: ScriptedEndpoint, **changes: object) -> dict[str, object]:
    """Eight topics, one example of each: what is refused is missing at the end."""
    (folder / "topics.txt").write_text("\n".join(_TOPICS), encoding="utf-8")
    generation = {"examples_per_topic": 1, "max_examples_per_topic": 1}
    return config_of(endpoint, target=8, topics={"file": "topics.txt"}, generation=generation, **changes)


def _refusing(asked: Asked) -> Reply:
    """Two generations and a verdict are refused, and one verdict is malformed whenever it is asked for."""
    if asked.kind == "generate":
        return Reply(status=400) if "Topic: case 1" in asked.text else _of_topic(asked)
    return {"case 2": Reply(status=422), "case 3": Reply(scores("good"))}.get(_topic(asked), Reply(scores(5)))


def _of_topic(asked: Asked) -> Reply:
    """A good example that says which topic it is about."""
    topic = next(line for line in asked.text.splitlines() if line.startswith("Topic: ")).removeprefix("Topic: ")
    return Reply(usual_reply(asked).content.replace('"user_message":"', f'"user_message":"about {topic}: '))


def _topic(asked: Asked) -> str:
    found = asked.text.partition("about ")[2]
    return found.partition(":")[0]


def _reasons(folder: Path) -> dict[str, tuple[str, str]]:
    return {line["metadata"]["topic"]: (line["stage"], line["reason"]) for line in rejects_of(folder / "run")}


def test_what_was_refused_is_asked_again_and_nothing_else(tmp_path: Path) -> None:
    """Refused generations and verdicts are open again; a malformed verdict was an answer, and its example stays out."""
    with scripted_endpoint(_refusing) as endpoint:
        tree = _config(tmp_path, endpoint)
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        assert _reasons(tmp_path) == {
            "case 1": ("generate", "request_rejected"),
            "case 2": ("judge", "request_rejected"),
            "case 3": ("judge", "no_verdict"),
        }
        sent = endpoint.count()
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        assert endpoint.count() == sent, "what failed for good is asked again without being told to"
        endpoint.reply = lambda asked: _of_topic(asked) if asked.kind == "generate" else Reply(scores(5))
        held = names_in_journal(tmp_path / "run")
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree, retry_failed=True)
        again = [(asked.kind, asked.name in held) for asked in endpoint.asked[sent:]]
        assert sorted(again) == [("generate", False), ("judge", False), ("judge", False)]
        assert _reasons(tmp_path) == {"case 3": ("judge", "no_verdict")}
        assert len(dataset_of(tmp_path / "run")) == 7


def test_what_was_opened_again_stays_open(tmp_path: Path) -> None:
    """A run that ends before it asked again leaves the requests open: the plain command asks for them."""
    with scripted_endpoint(_refusing) as endpoint:
        tree = _config(tmp_path, endpoint)
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        endpoint.reply = lambda _: Reply(status=401)
        with pytest.raises(EndpointRefused):
            drive(tmp_path, tree, retry_failed=True)
        endpoint.reply = lambda asked: _of_topic(asked) if asked.kind == "generate" else Reply(scores(5))
        with pytest.raises(StoppedEarly):
            drive(tmp_path, tree)
        assert _reasons(tmp_path) == {"case 3": ("judge", "no_verdict")}


def test_a_finished_run_has_nothing_to_retry(tmp_path: Path) -> None:
    """With its target met, `retry_failed` changes no byte and sends nothing: more would only be over the target."""
    with scripted_endpoint(_refusing) as endpoint:
        tree = {**_config(tmp_path, endpoint), "target": 5}
        drive(tmp_path, tree)
        assert ("generate", "request_rejected") in _reasons(tmp_path).values()
        before, sent = truth_of(tmp_path / "run"), endpoint.count()
        drive(tmp_path, tree, retry_failed=True)
        assert truth_of(tmp_path / "run") == before
        assert endpoint.count() == sent
