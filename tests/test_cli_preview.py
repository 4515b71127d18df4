"""What `preview` shows of revisions and preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from scripted_endpoint import Asked, Reply, choice, config_of, drive, scores, scripted_endpoint, usual_reply, words

from synth_async.cli.preview import preview_text, read_preview

_WEAK = "zeluda"


def _shown(folder: Path, tree: dict[str, Any]) -> tuple[dict[str, Any], str]:
    run = drive(folder, tree)
    shown = read_preview(run.folder, run.loaded)
    return orjson.loads(orjson.dumps(shown)), preview_text(shown)


def test_a_revised_example_says_from_what_and_with_which_prompt(tmp_path: Path) -> None:
    """The prompt of a revision is shown with the judge's reason, and each revised example with its first score."""

    def reply(asked: Asked) -> Reply:
        return (
            Reply(scores(5 if int(asked.name[:2], 16) < 128 else 3.5)) if asked.kind == "judge" else usual_reply(asked)
        )

    with scripted_endpoint(reply) as endpoint:
        shown, text = _shown(tmp_path, config_of(endpoint, revise=1))
    assert set(shown["prompts"]) == {"topics", "generation", "judge", "revise"}
    assert "A reviewer found: as scripted" in shown["prompts"]["revise"][1]["content"]
    assert "REVISION PROMPT" in text
    assert "  revised    from 3.5: as scripted" in text


def test_a_preference_is_shown_with_its_other_side(tmp_path: Path) -> None:
    """The prompts of replies and comparisons are those of the first pair; the rejected reply stands below it."""

    def reply(asked: Asked) -> Reply:
        if asked.kind == "reply":
            return Reply(f"{_WEAK} {words(asked.name, 40)}.")
        if asked.kind == "compare":
            return Reply(choice("b" if f'"reply_a":"{_WEAK}' in asked.text else "a"))
        return Reply(scores(3 if _WEAK in asked.text else 4.5)) if asked.kind == "judge" else usual_reply(asked)

    with scripted_endpoint(reply) as endpoint:
        tree = config_of(endpoint, target=3, mode="preference", preference={"samples": 2})
        shown, text = _shown(tmp_path, tree)
        assert set(shown["prompts"]) == {"topics", "generation", "judge", "reply"}
        assert shown["prompts"]["reply"][1:] == shown["accepted"][0]["messages"][1:-1]
        assert text.count("[rejected, by scripted, 3: as scripted]") == 3
        (tmp_path / "compared").mkdir()
        tree["judge"]["mode"] = "pairwise"
        shown, text = _shown(tmp_path / "compared", tree)
    compared = shown["prompts"]["compare"][1]["content"]
    for side in (shown["accepted"][0]["messages"][-1], shown["accepted"][0]["rejected"][0]):
        assert side["content"] in compared
    assert text.count("[rejected, by scripted]") == 3
