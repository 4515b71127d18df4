"""The formats of trainers: each one writes conversations and knows what its target refuses.

row = FORMATS["openai"].write(conversation)      # or Unfit, with the reason
list(FORMATS["openai"].breaches(row))            # [] where the target takes it
"""

from synth_async.dataset.formats.base import Format, Row, Unfit
from synth_async.dataset.formats.chat import AXOLOTL, JSONL, MISTRAL, OPENAI, PARQUET, TOGETHER
from synth_async.dataset.formats.pairs import ALPACA, SHAREGPT, TRL_DPO, TRL_PROMPT_COMPLETION, TRL_SFT

__all__ = ["FORMATS", "Format", "Row", "Unfit"]

_ALL = (
    OPENAI,
    TRL_SFT,
    TRL_PROMPT_COMPLETION,
    TRL_DPO,
    SHAREGPT,
    ALPACA,
    AXOLOTL,
    TOGETHER,
    MISTRAL,
    PARQUET,
    JSONL,
)
FORMATS: dict[str, Format] = {each.name: each for each in _ALL}
"""Every format by its name."""
