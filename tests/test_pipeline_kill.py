"""Real processes, really killed, under the fault mix of the embedded endpoint, against a server that counts."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from disturbed_run import LONG_MIX, MIX, disturbed_run
from scripted_endpoint import answers_in_journal, names_in_journal


def test_a_disturbed_run_loses_nothing_and_pays_for_nothing_twice(tmp_path: Path) -> None:
    """After a SIGKILL, a stop of two seconds and an INT: exactly N unique ids, and only what was in flight paid."""
    with disturbed_run(tmp_path, MIX, target=60, seed=1) as rig:
        rig.kill(50)
        rig.halt(30)
        rig.finish(60)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [2, 3])
def test_a_long_run_survives_ten_kills(tmp_path: Path, seed: int) -> None:
    """The same after ten SIGKILLs at random instants before 2,000 examples, with hangs, torn tails and power losses."""
    with disturbed_run(tmp_path, LONG_MIX, target=2_000, seed=seed, endpoints__timeout_s=15) as rig:
        for _ in range(10):
            rig.kill(rig.chance.randrange(3, 430))
        assert len(names_in_journal(rig.run)) > 500
        rig.finish(2_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_survives_every_kind_of_signal_in_turn(tmp_path: Path) -> None:
    """TERM, INT, HUP, STOP with CONT, and KILL, one after the other, each at a random instant."""
    with disturbed_run(tmp_path, MIX, target=400, seed=4) as rig:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            rig.signal(rig.chance.randrange(3, 120), number)
            rig.kill(rig.chance.randrange(3, 60))
            rig.halt(rig.chance.randrange(3, 60))
        rig.finish(400)


def test_a_terminated_run_loses_nothing(tmp_path: Path) -> None:
    """TERM lets the requests in flight finish, answers 130, tells it, and every paid answer is in the journal."""
    tell = "import os; open('told', 'a').write(os.environ['SYNTH_ASYNC_OUTCOME'] + ' ')"
    with disturbed_run(tmp_path, MIX, target=40, seed=5, on_finish=[sys.executable, "-c", tell]) as rig:
        rig.signal(25, signal.SIGTERM)
        assert len(rig.endpoint.answered) == answers_in_journal(rig.run).total() >= 10
        rig.finish(40)
    assert (tmp_path / "told").read_text() == "interrupted finished finished "
