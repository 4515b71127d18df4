"""From a domain and a config file to a fine-tuning dataset, unattended, at the speed the endpoint's rate limits allow.

    result = await synth_async.run("config.yaml")
    async for example in synth_async.generate("config.yaml"): ...

The command line is `synth-async`. Names are loaded when they are first used, so that `synth-async --help` answers at
once and `import synth_async` costs nothing. Errors are in `synth_async.errors`, fakes for tests in
`synth_async.testing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synth_async.api.deduplicator import Deduplicator, Duplicate
    from synth_async.api.journal import Answer, Decision, JournalRecord, NewTopics, Reopened, read_journal
    from synth_async.api.running import RunResult, generate, run
    from synth_async.config import Config, load_config
    from synth_async.pipeline.run import RunOptions, Snapshot
    from synth_async.records import DatasetLine, Drop, Task, Verdict

__all__ = [
    "Answer",
    "Config",
    "DatasetLine",
    "Decision",
    "Deduplicator",
    "Drop",
    "Duplicate",
    "JournalRecord",
    "NewTopics",
    "Reopened",
    "RunOptions",
    "RunResult",
    "Snapshot",
    "Task",
    "Verdict",
    "__version__",
    "generate",
    "load_config",
    "read_journal",
    "run",
]

__version__ = "0.1.0"

_MODULES = {
    "Answer": "api.journal",
    "Config": "config",
    "DatasetLine": "records",
    "Decision": "api.journal",
    "Deduplicator": "api.deduplicator",
    "Drop": "records",
    "Duplicate": "api.deduplicator",
    "JournalRecord": "api.journal",
    "NewTopics": "api.journal",
    "Reopened": "api.journal",
    "RunOptions": "pipeline.run",
    "RunResult": "api.running",
    "Snapshot": "pipeline.run",
    "Task": "records",
    "Verdict": "records",
    "generate": "api.running",
    "load_config": "config",
    "read_journal": "api.journal",
    "run": "api.running",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
