from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_lines import METRICS, Read, accepted_line, followed, page_of, rejected_line

from synth_async.report.page import visible
from synth_async.report.quality import safety_panels
from synth_async.report.text import report_text
from synth_async.report.timeline import Timeline

_HOSTILE = [
    "</p></script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\" onload='x' &amp; &lt;b&gt; &#60; ]]> <!-- --> {{ 7 * 7 }} {% raw %}",
    "a\u2028b\u2029c\u202ed\x00\x1b[31me\r\nf\x85\ufeff",
    "عربي 你好 <b>ไทย</b>",
]
_TEXTS = st.one_of(st.text(max_size=60), st.sampled_from(_HOSTILE))


def _manifest(**settings: Any) -> dict[str, Any]:
    return {"name": "n", "simulated": False, "parts": {"generate": settings, "judge": {"judge.min_score": 4.0}}}


@given(user=_TEXTS, reply=_TEXTS, topic=_TEXTS, detail=_TEXTS, label=_TEXTS, name=_TEXTS, reason=_TEXTS)
def test_any_text_in_any_field_is_shown_as_that_text(
    user: str, reply: str, topic: str, detail: str, label: str, name: str, reason: str
) -> None:
    """A parser reads back what was put in, and finds no element and no attribute that the template has not."""
    with tempfile.TemporaryDirectory() as folder:
        origin = {"topic": topic, "facets": {"tone": label}, "judge_reason": detail, "score": 3.5}
        line = rejected_line(1, reason, detail, user=user, reply=reply, **origin)
        follower = followed(Path(folder), [accepted_line(2, user=user, reply=reply, **origin)], [line])
        read = Read(page_of(follower, manifest=_manifest(domain=detail), name=name))
        plain: dict[str, Any] = {"score": 3.5, "judge_reason": "r" * bool(detail)}
        harmless = followed(Path(folder), [accepted_line(2, **plain)], [rejected_line(1, **plain)])
        expected = Read(page_of(harmless, manifest=_manifest(domain="d" * bool(detail)), name="plain"))
    assert {visible(user), visible(reply)} <= set(read.texts["said"])
    assert read.texts["topic"] == [visible(topic)] * 2
    assert read.texts["h1"] == [visible(name)]
    if detail:
        assert visible(detail) in read.texts["detail"]
        assert read.texts["judge"] == [visible(detail)] * 2
        assert read.texts["domain"] == [visible(detail)]
    examples = [found for tag, found in read.tags if tag == "details" and "data-kind" in found]
    assert {found["data-labels"] for found in examples} == {visible(f"tone: {label}")}
    assert {found["data-reason"] for found in examples} == {"", visible(reason)}
    known = {(tag, attribute) for tag, found in expected.tags for attribute in found}
    assert {(tag, attribute) for tag, found in read.tags for attribute in found} <= known
    assert [tag for tag, _ in read.tags if tag == "script"] == ["script", "script"]


def test_control_characters_are_shown_and_never_written(tmp_path: Path) -> None:
    """What a terminal or a parser would obey has a picture; the page holds none of it."""
    page = page_of(followed(tmp_path, [accepted_line(user="a\x00b\x1bc\x7f")], []), name="x\x07")
    assert "a␀b␛c␡" in page
    assert not set(page) & {chr(code) for code in range(0x20) if chr(code) not in "\n\t"}


def test_the_policy_allows_the_page_s_own_style_and_script_and_nothing_else(tmp_path: Path) -> None:
    """The hashes in the head are those of the elements as they stand; everything else is denied."""
    read = Read(page_of(followed(tmp_path, [accepted_line()], [])))
    (policy,) = [found["content"] for tag, found in read.tags if found.get("http-equiv") == "Content-Security-Policy"]
    (style,), (_, script) = read.texts["style"], read.texts["script"]
    hashes = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in (style, script)]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}';"
        " base-uri 'none'; form-action 'none'"
    )
    assert not [found for _, found in read.tags if "style" in found or any(name.startswith("on") for name in found)]


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    """No address in any attribute but places in the page itself, and none in style or script."""
    line = accepted_line(user="see https://example.com and <img src='https://example.com/x.png'>")
    page = page_of(followed(tmp_path, [line], []))
    read = Read(page)
    for tag, found in read.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "video", "audio", "source", "use"), tag
        assert not {"src", "srcset", "action", "data", "poster", "xlink:href"} & set(found), tag
        assert (found.get("href") or "#").startswith("#")
    for code in (*read.texts["style"], *read.texts["script"]):
        assert not re.search(r"(?i)https?:|url\(|@import|fetch\(|XMLHttpRequest|WebSocket|import\(", code)


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the order in which the lines came, as far as the files allow one."""
    accepted = [accepted_line(number, user=f"question {number}", score=4 + number % 3 / 4) for number in range(300)]
    rejected = [rejected_line(1000 + number, user=f"other {number}") for number in range(60)]
    first = page_of(followed(tmp_path, accepted, rejected))
    assert page_of(followed(tmp_path, accepted, rejected)) == first
    assert page_of(followed(tmp_path, accepted[::-1], rejected[::-1])) == first


def test_no_text_makes_the_page_a_large_one(tmp_path: Path) -> None:
    """Below 3 MB with the longest and the worst to escape in every field, and it says what it does not show."""
    worst = "&<\"'" * 5_000
    many = {f"{number}{worst}": worst for number in range(60)}
    origin = dict.fromkeys(["topic", "judge_reason", "model"], worst) | {"facets": many, "score": 4.0}
    origin["scores"] = dict.fromkeys(many, 4)
    accepted = [accepted_line(number, user=worst, reply=worst, **origin) for number in range(12)]
    rejected = [rejected_line(99 + number, f"{number % 3}{worst}", worst, user=worst, **origin) for number in range(12)]
    rejected += [
        rejected_line(200 + number, "near_duplicate", f"0.9 like {number % 12:016x}", user=worst, reply=worst)
        for number in range(24)
    ]
    share = {"wished": 0.01, "share": 0.01, "accepted": 1}
    coverage = {f"{axis}{worst}": {f"{value}{worst}": share for value in range(300)} for axis in range(30)}
    settings = {f"{number}{worst}": worst for number in range(500)}
    page = page_of(
        followed(tmp_path, accepted, rejected),
        metrics=METRICS | {"coverage": coverage, "waiting_for": worst, "failures": {worst: 1}},
        manifest=_manifest(system_prompt=worst, domain=worst, **settings),
        name=worst,
    )
    assert len(page.encode()) < 3_000_000, len(page.encode())
    assert "more characters are not shown" in page


@pytest.mark.parametrize("metrics", [None, METRICS | {"accepted": 0, "answered": 0, "judged": 0, "elapsed_s": 0.0}])
def test_a_run_of_which_there_is_nothing_yet_has_a_page(tmp_path: Path, metrics: dict[str, Any] | None) -> None:
    """Each section says why it is empty."""
    page = page_of(followed(tmp_path, [], []), metrics=metrics, timeline=Timeline(), state="new")
    for said in ("Nothing was rejected", "No judge was asked", "No time series yet", "No example yet"):
        assert said in page
    assert ("Nothing is counted yet" in page) == (metrics is None)
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", re.sub(r"(?s)<(style|script).*?</", "", page))


def test_a_page_says_what_it_is_about(tmp_path: Path) -> None:
    """Figures of the funnel, the reasons, a wish that was missed, the state, and that data is simulated."""
    calm = {"wished": 0.5, "share": 0.25, "accepted": 1, "given_up": True}
    coverage = {"tone": {"calm": calm, "cross": {"wished": 0.5, "share": 0.75, "accepted": 3}}}
    rejected = [rejected_line(5, "short_reply"), rejected_line(6, "short_reply")]
    follower = followed(tmp_path, [accepted_line(n, simulated=True) for n in range(4)], rejected)
    page = page_of(follower, metrics=METRICS | {"coverage": coverage, "cost_usd": 2.0}, state="running")
    for said in ("Simulated data.", "$2.00", "$500.00 per 1,000 accepted", "given up", "25.0 %", "50.0", "within 25.0"):
        assert said in page
    assert 'data-pick-reason="short_reply"' in page
    assert "Written while the run goes" in page
    plain = page_of(followed(tmp_path, [accepted_line()], []))
    assert "Simulated data." not in plain


def test_a_duplicate_is_shown_beside_what_it_repeats(tmp_path: Path) -> None:
    """The words in which they differ are marked, and the pieces of a text are the text."""
    kept = accepted_line(7, user="Hello, where is my invoice of May?", reply="Look under Billing.")
    twin = {"user": "Hello, where is my invoice of June?", "reply": "Look under Billing."}
    rejected = [
        rejected_line(8, "near_duplicate", f"0.957 like {7:016x}", **twin),
        rejected_line(9, "exact_duplicate", f"same text as {7:016x}"),
    ]
    read = Read(page_of(followed(tmp_path, [accepted_line(1), kept], rejected)))
    assert read.texts["mark"][0] == "June?"
    assert read.texts["said"].count("Hello, where is my invoice of June?") == 2  # in its cluster and in the sample
    assert any("2 dropped for repeating 1 accepted example" in text for text in _headings(tmp_path, kept, rejected))


def _headings(folder: Path, kept: dict[str, Any], rejected: list[dict[str, Any]]) -> list[str]:
    page = page_of(followed(folder, [kept], rejected))
    return re.findall(r"<h3>([^<]*)", page)


def test_a_reply_that_another_was_preferred_to_is_shown_as_such(tmp_path: Path) -> None:
    """A preference's other reply stands behind the chosen one; its margin is told."""
    line = accepted_line(3, margin=1.25, revised=True, draft={"score": 3.5})
    line["rejected"] = [{"role": "assistant", "content": "No idea."}]
    read = Read(page_of(followed(tmp_path, [line], [])))
    assert "No idea." in read.texts["said"]
    assert {"rejected reply"} <= set(read.texts["who"])
    assert {"1.25", "from a score of 3.50"} <= set(read.texts["dd"])


def test_the_readings_are_numbers_of_the_charts(tmp_path: Path) -> None:
    """One list a chart, each reading its place, its second and what was done a minute."""
    read = Read(page_of(followed(tmp_path, [accepted_line()], [])))
    readings = json.loads(read.texts["script"][0])
    assert len(readings) == len([found for _, found in read.tags if "data-panel" in found]) == 3
    assert [rate for _, _, rate in readings[0]] == [240.0, 240.0, 240.0]


def test_a_line_from_elsewhere_is_counted_and_shown(tmp_path: Path) -> None:
    """A merge brings lines that say nothing of where they are from, and may not have an id."""
    line = {"messages": [{"role": "user", "content": "from elsewhere"}], "metadata": {}}
    follower = followed(tmp_path, [line, line | {"id": 7}], [])
    assert (follower.report.accepted, follower.report.unreadable) == (2, 0)
    assert Read(page_of(follower)).texts["said"] == ["from elsewhere"] * 2


def test_safety_has_a_section_of_its_own(tmp_path: Path) -> None:
    """On the page, in the text and as JSON, and none where no criterion is about safety."""
    lines = [accepted_line(number, score=5, scores={"quality": 5}, safety={"bias": 4}) for number in range(2)]
    dropped = [rejected_line(9, scores={"quality": 5}, safety={"bias": 1})]
    follower = followed(tmp_path, lines, dropped)
    assert [panel.name for panel in safety_panels(follower.report)] == ["bias"]
    assert 'id="safety"' in page_of(follower)
    assert "safety of accepted examples: bias, mean 4.00" in report_text(follower.report, None, name="r")
    assert follower.report.as_json()["safety"]["bias"]["mean"] == 4
    assert 'id="safety"' not in page_of(followed(tmp_path, [accepted_line(0)], []))
