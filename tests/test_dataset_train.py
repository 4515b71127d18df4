"""An export trains as it is: SFT and DPO with LoRA on a tiny random model, on the CPU (`pytest -m train`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chat_rows import example, write_rows

from synth_async.dataset.export import ExportWishes, export

pytestmark = [
    pytest.mark.train,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore"),  # of torch and its friends, whose warnings are theirs
]

STEPS = 20
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }}<|im_end|>\n{% endgeneration %}{% else %}{{ message.content }}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer_of(texts: list[str]) -> Any:
    """A byte-level tokenizer of 1,000 tokens, trained on the texts."""
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    encoder = tokenizers.ByteLevelBPETokenizer()
    encoder.train_from_iterator(texts, vocab_size=1000, special_tokens=["<|im_start|>", "<|im_end|>", "<pad>"])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=encoder._tokenizer,  # noqa: SLF001  the wrapper keeps it nowhere else
        eos_token="<|im_end|>",
        pad_token="<pad>",
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(tokenizer: Any) -> Any:
    """A random Llama of two layers."""
    transformers = pytest.importorskip("transformers")
    transformers.set_seed(0)
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.2,  # the head stays frozen: with the default of 0.02 no logit could grow
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def losses(trainer: Any) -> list[float]:
    """The loss of every step, after training."""
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def settings(folder: Path) -> dict[str, Any]:
    """What SFT and DPO have in common: a few steps on the CPU, nothing saved or reported."""
    return {
        "output_dir": str(folder / "out"),
        "max_steps": STEPS,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }


def lora() -> Any:
    """A small adapter on every linear layer but the head, which trl wants frozen."""
    peft = pytest.importorskip("peft")
    return peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")


@pytest.mark.parametrize("format_name", ["trl-sft", "trl-prompt-completion"])
def test_sft_trains_on_an_export(tmp_path: Path, format_name: str) -> None:
    """load_dataset, SFTTrainer, LoRA: the loss goes down, with the loss on the assistant alone."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    rows = [example(number) for number in range(48)]
    export(ExportWishes(write_rows(tmp_path / "in.jsonl", *rows), format_name, out=tmp_path / "x"))
    data = datasets.load_dataset("json", data_files=str(tmp_path / "x" / "train.jsonl"), split="train")
    tokenizer = tokenizer_of([message["content"] for row in rows for message in row["messages"]])
    config = trl.SFTConfig(**settings(tmp_path), assistant_only_loss=format_name == "trl-sft", max_length=512)
    trainer = trl.SFTTrainer(
        tiny_model(tokenizer), args=config, train_dataset=data, processing_class=tokenizer, peft_config=lora()
    )
    seen = losses(trainer)
    assert len(seen) == STEPS
    assert sum(seen[-3:]) < 0.9 * sum(seen[:3])


def test_dpo_trains_on_an_export(tmp_path: Path) -> None:
    """load_dataset, DPOTrainer, LoRA: the loss goes down from log 2, the chosen answer gains on the rejected one."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    turns = [example(number)["messages"] for number in range(48)]
    worse = {"role": "assistant", "content": "no idea, ask somebody else about that"}
    rows = [{"prompt": each[:-1], "chosen": each[-1:], "rejected": [worse]} for each in turns]
    export(ExportWishes(write_rows(tmp_path / "in.jsonl", *rows), "trl-dpo", out=tmp_path / "x.jsonl"))
    data = datasets.load_dataset("json", data_files=str(tmp_path / "x.jsonl"), split="train")
    tokenizer = tokenizer_of([message["content"] for each in turns for message in each])
    trainer = trl.DPOTrainer(
        tiny_model(tokenizer),
        args=trl.DPOConfig(**settings(tmp_path), max_length=512),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora(),
    )
    seen = losses(trainer)
    assert seen[0] == pytest.approx(0.6931, abs=0.01)
    assert sum(seen[-3:]) < 0.9 * sum(seen[:3])


def test_packed_blocks_train(tmp_path: Path) -> None:
    """input_ids, labels and position_ids of packed.parquet go into a model as they are: the loss goes down."""
    torch, parquet = pytest.importorskip("torch"), pytest.importorskip("pyarrow.parquet")
    rows = [example(number) for number in range(48)]
    tokenizer = tokenizer_of([message["content"] for row in rows for message in row["messages"]])
    tokenizer.save_pretrained(tmp_path / "tok")
    source = write_rows(tmp_path / "in.jsonl", *rows)
    done = export(ExportWishes(source, "trl-sft", out=tmp_path / "x", tokenizer=str(tmp_path / "tok"), pack=1024))
    assert done.packing is not None
    assert not done.warnings  # the tokenizer's own template was taken
    blocks = parquet.read_table(tmp_path / "x" / "packed.parquet").to_pylist()
    model = tiny_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    seen = []
    for step in range(STEPS):
        block = blocks[step % len(blocks)]
        keys = ("input_ids", "labels", "position_ids")
        loss = model(**{key: torch.tensor([block[key]]) for key in keys}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(float(loss))
    assert sum(seen[-3:]) < 0.9 * sum(seen[:3])
