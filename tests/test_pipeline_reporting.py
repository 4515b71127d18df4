"""The page and the timeline of whole runs, against an endpoint whose answers the test controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from report_lines import METRICS, accepted_line, rejected_line, write_lines
from scripted_endpoint import Reply, config_of, dataset_of, drive, prepared_run, scripted_endpoint, usual_reply

from synth_async.errors import DiskFailure, Interrupted
from synth_async.pipeline.reporting import Reporting
from synth_async.pipeline.run import Run
from synth_async.report.metrics import Tally
from synth_async.report.timeline import WHOLE_RUN, Timeline
from synth_async.report.writing import ReportWriter
from synth_async.store.run_folder import RunFolder, read_json
from synth_async.testing import run_in_virtual_time


def _timeline(folder: Path) -> Timeline:
    return Timeline.from_json(read_json(folder / "timeline.json"))


def _interrupted(folder: Path, tree: dict[str, Any], accepted: int) -> Run:
    """A run that is interrupted when so many are accepted."""
    run = prepared_run(folder, tree)

    async def interrupt() -> None:
        while run.tally.accepted < accepted:  # noqa: ASYNC110 - a tally is no event
            await anyio.sleep(0.001)
        run.interrupt(Interrupted("by the test"))

    async def driven() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(interrupt)
            await run.drive()

    with pytest.raises(BaseExceptionGroup):
        anyio.run(driven)
    return run


def test_the_timeline_of_an_interrupted_run_adds_up_to_its_counts(tmp_path: Path) -> None:
    """Accepted and rejected over both processes, the requests that were answered, and two beginnings."""
    with scripted_endpoint(lambda asked: Reply(usual_reply(asked).content, delay_s=0.01)) as endpoint:
        tree = config_of(endpoint, target=50, endpoints__rpm=60_000)
        stopped = _interrupted(tmp_path, tree, 15)
        assert _timeline(tmp_path / "run").total((WHOLE_RUN, "accepted")) == stopped.metrics["accepted"]
        assert "stopped with work left" in (tmp_path / "run" / "report.html").read_text()
        run = drive(tmp_path, tree)
        timeline = _timeline(tmp_path / "run")
        assert timeline.total((WHOLE_RUN, "accepted")) == run.metrics["accepted"] == 50
        assert timeline.total((WHOLE_RUN, "rejected")) == sum(run.metrics["rejected"].values())
        assert timeline.total(("only", "requests")) == run.metrics["attempts"] == endpoint.count()
        assert timeline.points[-1].end_s == pytest.approx(run.metrics["elapsed_s"], abs=0.5)
        assert timeline.limits == {"only": {"requests": 60_000.0}}
        assert len(timeline.starts_s) == 2


def test_the_page_of_a_finished_run_can_be_made_again(tmp_path: Path) -> None:
    """Run again it is left as it is; deleted it comes back, byte for byte, from a run or from the files alone."""
    with scripted_endpoint() as endpoint:
        tree = config_of(endpoint, target=20)
        drive(tmp_path, tree)
        folder = RunFolder(tmp_path / "run")
        page, sent = folder.page.read_bytes(), endpoint.count()
        assert b"20" in page
        assert folder.page.stat().st_mode & 0o777 == 0o600
        written_at = folder.page.stat().st_mtime_ns
        drive(tmp_path, tree)
        assert folder.page.stat().st_mtime_ns == written_at
        folder.page.unlink()
        drive(tmp_path, tree)
        assert folder.page.read_bytes() == page
        folder.page.unlink()
        writer = ReportWriter(folder)
        writer.read_on()
        writer.write(read_json(folder.metrics), _timeline(folder.path))
        assert folder.page.read_bytes() == page
        assert endpoint.count() == sent


def test_a_page_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    """It is told once, and the run has its target; so it is with a timeline that nobody can read."""
    (tmp_path / "run" / "report.html").mkdir(parents=True)
    (tmp_path / "run" / "report.html" / "in the way").touch()
    (tmp_path / "run" / "timeline.json").write_text("{")
    told: list[str] = []
    with scripted_endpoint() as endpoint:
        run = prepared_run(tmp_path, config_of(endpoint))
        run.on_note = told.append
        anyio.run(run.drive)
    assert len(dataset_of(tmp_path / "run")) == 20
    (note,) = [each for each in told if "report.html" in each]
    assert "could not be written" in note
    assert _timeline(tmp_path / "run").total((WHOLE_RUN, "accepted")) == 20


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A folder with a few lines in it."""
    write_lines(tmp_path / "dataset.jsonl", *(accepted_line(number) for number in range(5)))
    write_lines(tmp_path / "rejects.jsonl", rejected_line(9))
    return RunFolder(tmp_path)


def test_a_full_disk_gets_no_page(folder: RunFolder) -> None:
    """What room there is belongs to the answers; any other end has its page."""

    async def finished(error: DiskFailure | Interrupted) -> bool:
        reporting = Reporting(folder, Tally(), lambda: 1.0, told.append)
        await reporting.finish(METRICS, error)
        reporting.close()
        return folder.page.exists()

    told: list[str] = []
    assert not run_in_virtual_time(finished, DiskFailure("full"))
    assert run_in_virtual_time(finished, Interrupted("by hand"))
    assert not told


def test_the_page_is_written_while_the_run_goes(folder: RunFolder) -> None:
    """From the tenth second on, and again when there is more; each says that the run is running."""
    pages: list[bytes] = []

    async def watched() -> None:
        reporting = Reporting(folder, Tally(), anyio.current_time, pytest.fail)
        async with anyio.create_task_group() as group:
            group.start_soon(reporting.keep, lambda: METRICS)
            await anyio.sleep(9.5)
            assert not folder.page.exists()
            for _ in range(2):
                folder.page.unlink(missing_ok=True)
                while not folder.page.exists():  # noqa: ASYNC110 - a file is no event
                    await anyio.sleep(1.0)
                pages.append(folder.page.read_bytes())
                write_lines(folder.dataset, *(accepted_line(number) for number in range(50)))
            group.cancel_scope.cancel()
        reporting.close()

    run_in_virtual_time(watched)
    assert all(b"Written while the run goes" in page for page in pages)
    assert [page.count(b'data-kind="accepted"') for page in pages] == [5, 50]


def test_the_timeline_goes_with_the_metrics(tmp_path: Path) -> None:
    """Both are there at the end, and the timeline is JSON of its own."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, target=5))
    found = orjson.loads((tmp_path / "run" / "timeline.json").read_bytes())
    assert list(found) == ["format", "step_s", "starts_s", "end_s", "span_s", "series", "limits_per_minute"]
