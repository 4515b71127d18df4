"""What a trainer wants beside the file: LLaMA-Factory's dataset_info.json, the datasets part of an Axolotl config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["axolotl_config", "dataset_info"]

_COLUMNS: dict[str, dict[str, Any]] = {
    "alpaca": {
        "columns": {
            "prompt": "instruction",
            "query": "input",
            "response": "output",
            "system": "system",
            "history": "history",
        }
    },
    "sharegpt": {
        "formatting": "sharegpt",
        "columns": {"messages": "conversations"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "observation_tag": "observation",
            "function_tag": "function_call",
            "system_tag": "system",
        },
    },
}


def dataset_info(format_name: str, files: Mapping[str, str], *, has_tools: bool) -> dict[str, Any]:
    """The entries of dataset_info.json: `files` is the name of each dataset and its file."""
    described = dict(_COLUMNS[format_name])
    if has_tools:
        described["columns"] = described["columns"] | {"tools": "tools"}
    return {name: {"file_name": file, **described} for name, file in files.items()}


def axolotl_config(train: str, held_out: str | None) -> str:
    """The part of an Axolotl config that reads the files: the chat template of the tokenizer, loss on the assistant."""
    config: dict[str, Any] = {"chat_template": "tokenizer_default", "datasets": [_axolotl_entry(train)]}
    if held_out is not None:
        config["test_datasets"] = [_axolotl_entry(held_out) | {"split": "train"}]
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1000)


def _axolotl_entry(path: str) -> dict[str, Any]:
    return {
        "path": path,
        "ds_type": "json",
        "type": "chat_template",
        "field_messages": "messages",
        "message_property_mappings": {"role": "role", "content": "content"},
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }
