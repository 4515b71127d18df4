"""The page in a real browser; asked for with `-m browser`, skipped where there is no Chromium."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from chromium import chromium_path, opened
from report_lines import accepted_line, followed, page_of, rejected_line

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium_path() is None, reason="there is no Chromium here"),
    pytest.mark.timeout(180),
]

_HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
_VISIBLE = "[...document.querySelectorAll('.ex')].filter(each => !each.hidden)"


@pytest.fixture
def address(tmp_path: Path) -> str:
    """Where there is a page with 40 accepted and 24 rejected examples, hostile ones among them."""
    accepted = [accepted_line(n, user=f"{_HOSTILE} question {n}", score=4 + n % 5 / 4) for n in range(40)]
    rejected = [rejected_line(100 + n, "low_score", score=2.5, facets={"tone": "cross"}) for n in range(12)]
    rejected += [rejected_line(200 + n, "short_reply") for n in range(12)]
    path = tmp_path / "report.html"
    path.write_text(page_of(followed(tmp_path, accepted, rejected), name=_HOSTILE, manifest={"simulated": True}))
    return path.resolve().as_uri()


def test_it_opens_without_a_request_and_without_a_word(address: str) -> None:
    """Nothing on the console, no address but its own, hostile text is text, nothing is wider than a phone."""

    async def looked_at() -> None:
        async with opened(address) as page:
            assert await page.value("document.title") == f"{_HOSTILE}: report"
            assert await page.value("document.querySelectorAll('img').length") == 0
            assert _HOSTILE in await page.value("document.querySelector('.ex .said').textContent")
            await page.call(
                "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True
            )
            await page.value("document.querySelectorAll('details').forEach(each => { each.open = true })")
            assert await page.value("document.documentElement.scrollWidth") <= 390
            assert page.said == []
            assert page.asked == [address]

    anyio.run(looked_at)


def test_examples_are_filtered_by_reason_score_label_and_text(address: str) -> None:
    """Thirty at a time; a reason is picked from its bar; each filter leaves just what it names."""
    fill = (
        "(name, value) => { const form = document.querySelector('.filters'); form.elements[name].value = value;"
        " form.dispatchEvent(new Event('input')); }"
    )

    async def filtered() -> None:
        async with opened(address) as page:
            assert await page.value(f"{_VISIBLE}.length") == 30
            await page.value("document.querySelector('.show-more button').click()")
            assert await page.value(f"{_VISIBLE}.length") == 60
            await page.value("document.querySelector('[data-pick-reason=short_reply]').click()")
            await page.value("new Promise(done => setTimeout(done, 50))")
            assert await page.value(f"{_VISIBLE}.map(each => each.dataset.reason).join()") == ",".join(
                ["short_reply"] * 12
            )
            await page.value("document.querySelector('.filters [type=reset]').click()")
            await page.value("new Promise(done => setTimeout(done, 50))")
            await page.value(f"({fill})('high', 3)")
            assert await page.value(f"{_VISIBLE}.map(each => each.dataset.score).join()") == ",".join(["2.5"] * 12)
            await page.value(f"({fill})('high', '')")
            await page.value(f"({fill})('label', 'tone: cross')")
            assert await page.value(f"{_VISIBLE}.length") == 12
            await page.value(f"({fill})('label', '')")
            await page.value(f"({fill})('text', 'QUESTION 17')")
            assert await page.value(f"{_VISIBLE}.length") == 1
            await page.value(f"({fill})('text', 'nobody says this')")
            assert await page.value("document.querySelector('.nothing').hidden") is False
            assert page.said == []

    anyio.run(filtered)


def test_a_chart_is_read_with_the_keyboard(address: str) -> None:
    """The arrow keys move a cursor and say what stands there."""
    press = "document.querySelector('.plot').dispatchEvent(new KeyboardEvent('keydown', {key: 'Home'}))"

    async def read() -> None:
        async with opened(address) as page:
            await page.value(press)
            assert await page.value("document.querySelector('.reading').textContent") == "240 at 1 s"
            assert await page.value("document.querySelector('.cursor').getAttribute('visibility')") == "visible"
            assert page.said == []

    anyio.run(read)
