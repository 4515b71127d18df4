"""The endpoints of a run: opened once, shared by its stages, spilt over where there are several."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from scripted_endpoint import Asked, Reply, config_of, dataset_of, drive, scripted_endpoint, usual_reply


def test_all_stages_share_the_connections_of_an_endpoint(tmp_path: Path) -> None:
    """One session per endpoint: hundreds of requests of three stages, and no more connections than may be in flight."""
    with scripted_endpoint() as endpoint:
        drive(tmp_path, config_of(endpoint, target=60, endpoints__max_in_flight=4))
        assert {asked.kind for asked in endpoint.asked} == {"topics", "generate", "judge"}
        assert endpoint.count() > 100
        assert len(endpoint.peers) <= 4
    assert len(dataset_of(tmp_path / "run")) == 60


def test_an_endpoint_that_fails_in_the_middle_does_not_stop_the_run(tmp_path: Path) -> None:
    """Generation is served by two; one refuses the key after ten answers, and the other one does the rest."""
    answered: Counter[str] = Counter()

    def failing(asked: Asked) -> Reply:
        answered["failing"] += 1
        return usual_reply(asked) if answered["failing"] <= 10 else Reply(status=401)

    with scripted_endpoint() as sound, scripted_endpoint(failing) as broken:
        tree: dict[str, Any] = config_of(sound, target=60, topics__endpoint="only", judge__endpoint="only")
        tree["endpoints"]["broken"] = {**tree["endpoints"]["only"], "base_url": broken.base_url}
        tree["generation"] = {"endpoint": ["broken", "only"]}
        drive(tmp_path, tree)
        assert broken.count() > 10
    assert len(dataset_of(tmp_path / "run")) == 60
