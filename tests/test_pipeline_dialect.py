"""A run against a server that does not understand everything that is asked of it."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from scripted_endpoint import Asked, Reply, config_of, dataset_of, drive, prepared_run, scripted_endpoint, usual_reply

_NOTES = {
    "json_object": "endpoint only: no schema is understood, JSON is asked for as an object of any kind",
    "text": "endpoint only: response_format is not understood, JSON is asked for in words only",
}


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("understood", ["json_object", "text"])
def test_a_run_finds_the_format_that_its_server_understands(tmp_path: Path, status: int, understood: str) -> None:
    """Refused without a word why: nothing is lost, generation and judge go on plainer, and the run says so once."""

    def reply(asked: Asked) -> Reply:
        is_understood = asked.kind == "topics" or asked.response_format in (understood, "text")
        return usual_reply(asked) if is_understood else Reply(status=status)

    with scripted_endpoint(reply) as endpoint:
        run, notes = prepared_run(tmp_path, config_of(endpoint)), list[str]()
        run.on_note = notes.append
        anyio.run(run.drive)
        last = {asked.kind: asked.response_format for asked in endpoint.asked}
    assert len(dataset_of(tmp_path / "run")) == 20
    assert notes == [_NOTES[understood]]
    assert last == {"topics": "text", "generate": understood, "judge": understood}
    assert sum(run.tally.rejected.values()) == run.tally.rejected["over_target"]


@pytest.mark.parametrize("first", ["json_schema", "json_object"])
def test_a_format_that_is_understood_is_asked_for_by_all(tmp_path: Path, first: str) -> None:
    """Generation and judge ask by a schema unless the config begins lower; topics are lines of text."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, endpoints__response_format=first))
        formats = {(asked.kind, asked.response_format) for asked in endpoint.asked}
    assert formats == {("topics", "text"), ("generate", first), ("judge", first)}


def test_another_format_in_the_config_asks_for_nothing_again(tmp_path: Path) -> None:
    """How JSON is asked for is no part of a key: a finished run stays finished."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint))
        asked = endpoint.count()
        drive(tmp_path, config_of(endpoint, endpoints__response_format="text"))
        assert endpoint.count() == asked
        drive(tmp_path, config_of(endpoint, endpoints__response_format="text", target=21))
        assert len(dataset_of(tmp_path / "run")) == 21
