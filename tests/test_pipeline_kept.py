"""The sidecar of the dedup index in whole runs: it changes how soon a run goes on, and nothing that it decides."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from scripted_endpoint import (
    Asked,
    Reply,
    ScriptedEndpoint,
    config_of,
    dataset_of,
    drive,
    good_example,
    rejects_of,
    scripted_endpoint,
    usual_reply,
    words,
)
from small_config import small_config

from synth_async.pipeline.kept import KeptExamples
from synth_async.records import Example, Message, Topic
from synth_async.stages.curation import Curation
from synth_async.stages.dedup import PACKED_BYTES, Deduplicator
from synth_async.stages.generation import plan_task
from synth_async.store.sidecar import open_sidecar


def _often_the_same(asked: Asked) -> Reply:
    """A third of the examples are one of seven texts, with another greeting each time."""
    if asked.kind != "generate" or int(asked.name[:2], 16) >= 85:
        return usual_reply(asked)
    example = good_example(f"again {int(asked.name[2:4], 16) % 7}")
    return Reply(example.replace('"user_message":"', f'"user_message":"hello {asked.name[:3]} '))


def _tree(endpoint: ScriptedEndpoint, target: int) -> dict[str, Any]:
    return config_of(endpoint, target=target, facets={}, endpoints__max_in_flight=1, filters={"leakage": False})


def _decisions(run: Path) -> tuple[list[str], list[tuple[str, str, str]]]:
    dropped = [(line["id"], line["reason"], line["detail"]) for line in rejects_of(run)]
    return [line["id"] for line in dataset_of(run)], dropped


@pytest.mark.parametrize("damage", ["none", "missing", "cut", "foreign", "flipped"])
def test_decisions_are_the_same_whatever_became_of_the_sidecar(tmp_path: Path, damage: str) -> None:
    """A run that goes on drops what it would have dropped if it had never stopped, near-duplicates of old ones too."""
    with scripted_endpoint(_often_the_same) as endpoint:
        stopped = tmp_path
        drive(stopped, _tree(endpoint, 30))
        sidecar = stopped / "run" / "dedup.sidecar"
        held = sidecar.read_bytes()
        assert len(held) > 30 * 500
        if damage == "missing":
            sidecar.unlink()
        elif damage == "cut":
            sidecar.write_bytes(held[: len(held) // 2])
        elif damage == "foreign":
            sidecar.write_bytes(held.replace(b"packing 1", b"packing 0", 1))
        elif damage == "flipped":
            sidecar.write_bytes(held[:-9] + bytes([held[-9] ^ 1]) + held[-8:])
        drive(stopped, _tree(endpoint, 60))
        kept, dropped = _decisions(stopped / "run")
        assert any(reason == "near_duplicate" for _, reason, _ in dropped)
        texts = {line["id"]: line["messages"] for line in dataset_of(stopped / "run")}
        index = Deduplicator()
        for name in kept:
            sketch = index.sketch_messages(texts[name])
            assert index.find(sketch) is None
            index.add(name, sketch)
        assert len(sidecar.read_bytes()) > len(held)


def test_all_that_still_counts_is_restored(tmp_path: Path) -> None:
    """What agrees with the journal's acceptances is taken from the sidecar, up to the first that does not."""
    config = small_config()
    curation = Curation(config)

    def opened(into: Curation, last_place: int) -> KeptExamples:
        stamp = into.stamp or ""
        sidecar = open_sidecar(tmp_path / "s", stamp=stamp, record_bytes=PACKED_BYTES, last_place=last_place)
        stack.callback(sidecar.close)
        return KeptExamples(into, sidecar)

    texts = []
    with ExitStack() as stack:
        kept = opened(curation, 0)
        assert kept.restore([], str) == 0
        for number in range(100):
            messages: tuple[Message, ...] = ({"role": "user", "content": words(str(number), 30)},)
            example = Example(plan_task(config, "", Topic(number, f"t{number}"), 0, {}), messages, "m")
            kept.keep(example, curation.sketch(example), 1000 + number)
            texts.append(curation.compared_text(example))
    for places, expected in [
        (range(1000, 1100), 100),
        (range(1000, 1100), 100),
        ([*range(1000, 1070), 7], 70),
        (range(1000, 1100), 70),
    ]:
        with ExitStack() as stack:
            assert opened(Curation(config), 2000).restore(list(places), texts.__getitem__) == expected
