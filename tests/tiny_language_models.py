"""Language models of random weights, a few thousand parameters each, with a tokenizer trained on a few lines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BartConfig,
    BloomConfig,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from gradsift.components.shared.artifacts.step_output import StepOutput, produce
from gradsift.components.shared.data.prepared_data import (
    PreparedData,
    PreparedTask,
    Split,
    write_index,
    write_split,
)
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.model_loading import from_base
from gradsift.components.shared.models.task_model import Example, TaskModel
from gradsift.components.shared.parameters.model import ModelConfig

TRAINING_TEXT = [
    "add the two numbers and reply with the number only",
    "which is larger , a mouse or a whale ? the whale is larger",
    "name the capital of the country and then its river",
    "Options: negative, positive Answer: one two three four five six seven eight nine ten",
]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
THINKING_TEMPLATE = CHAT_TEMPLATE.replace(
    "{{ m['content'] }}",
    "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{{ m['content'].split('</think>')[-1] | trim }}"
    "{% else %}{{ m['content'] }}{% endif %}",
)
"""It writes an empty block of thoughts before an answer, which its generation prompt lacks, and drops thoughts that
an answer holds, as Qwen3's does."""
MARKED_TEMPLATE = CHAT_TEMPLATE.replace(
    "{{ m['content'] }}<|turn|>",
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|turn|>{% endgeneration %}"
    "{% else %}{{ m['content'] }}<|turn|>{% endif %}{{ '' }}",
)
"""It marks what the assistant writes."""
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
WIDTHS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 128}
RECURRING = {"initializer_range": 0.3}
LORA = {"lora_rank": 2, "lora_alpha": 8}

CONFIGS: dict[str, Callable[..., PreTrainedConfig]] = {
    "llama": lambda **own: LlamaConfig(**WIDTHS, **GROUPED, **RECURRING, **own),
    "llama_tied": lambda **own: LlamaConfig(
        **WIDTHS, **GROUPED, **RECURRING, tie_word_embeddings=True, **own
    ),
    "qwen2": lambda **own: Qwen2Config(**WIDTHS, **GROUPED, **RECURRING, **own),
    "qwen3": lambda **own: Qwen3Config(**WIDTHS, **GROUPED, **RECURRING, **own),
    "mistral": lambda **own: MistralConfig(**WIDTHS, **GROUPED, **RECURRING, sliding_window=8, **own),
    "gemma": lambda **own: GemmaConfig(**WIDTHS, **GROUPED, **RECURRING, **own),
    "gemma2": lambda **own: Gemma2Config(**WIDTHS, **GROUPED, **RECURRING, sliding_window=8, **own),
    "gpt2": lambda **own: GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=128,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        **RECURRING,
        **own,
    ),
    "bloom": lambda **own: BloomConfig(hidden_size=32, n_layer=2, n_head=4, **RECURRING, **own),
    "gemma3": lambda **own: Gemma3TextConfig(**WIDTHS, **GROUPED, **RECURRING, sliding_window=8, **own),
    "bart": lambda **own: BartConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=128,
        dropout=0,
        scale_embedding=True,
        decoder_start_token_id=0,
        init_std=0.1,
        **own,
    ),
    "t5": lambda **own: T5Config(
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        dropout_rate=0,
        decoder_start_token_id=0,
        **own,
    ),
    "flan_t5": lambda **own: T5Config(
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        dropout_rate=0,
        decoder_start_token_id=0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        **own,
    ),
}
"""A configuration by name: grouped-query attention, ALiBi, tied and untied weights, Conv1D, sliding windows."""


CONVERSATIONS: dict[str, list[Any]] = {
    "id": ["three answers", "one answer", "the last answer", "no conversation"],
    "prompt": ["seven ?", "name the river", "seven ?", "two and two"],
    "completion": ["eight and nine", "ten", "eight and nine", "four"],
    "rationale": [None, None, None, None],
    "earlier": [
        [
            {"role": "user", "content": "one ?"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three ?"},
            {"role": "assistant", "content": "four , five and six"},
        ],
        [{"role": "system", "content": "reply with one word"}],
        [{"role": "user", "content": "one ?"}, {"role": "assistant", "content": "two"}],
        [],
    ],
    "all_turns": [True, False, False, False],
}
"""Prepared rows, some of them conversations."""

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def write_prepared_data(folder: Path, test_rows: int = 4) -> Path:
    """Write prepared data: counting on by one (with a rationale in every other row), backwards, and sizes.

    The target `next` has val and test rows; `before` is of generation too, `size` of classification.
    """
    sizes: dict[Split, int] = {"train": 16, "val": 6, "test": test_rows}
    for split, count in sizes.items():
        write_split(folder, "next", split, [_counting(split, row, 1) for row in range(count)], "generation")
    write_split(folder, "before", "train", [_counting("train", row, -1) for row in range(16)], "generation")
    labelled = [
        {
            "id": f"size-{row}",
            "text": f"{WORDS[row % 10]} mice",
            "text_pair": None,
            "label": int(row % 10 > 4),
        }
        for row in range(16)
    ]
    write_split(folder, "size", "train", labelled)
    tasks = [
        PreparedTask(name="next", kind="generation", labels=[], rows=sizes),
        PreparedTask(name="before", kind="generation", labels=[], rows={"train": 16}),
        PreparedTask(name="size", labels=["few", "very_many"], rows={"train": 16}),
    ]
    write_index(folder, "counting", "next", tasks)
    return folder


def produce_prepared_data(root: Path, test_rows: int = 4) -> StepOutput:
    """Leave `write_prepared_data` under a run root, as the step would."""

    def work(folder: Path) -> dict[str, Any]:
        write_prepared_data(folder, test_rows)
        (folder / "statistics.json").write_text("[]")
        return {}

    return produce(str(root), "data_preparation", {}, work)


def write_suite(folder: Path) -> Path:
    """Write a suite of the target `next` and the auxiliary `before`, of which no two rows are equal."""
    splits = {"train": range(16), "val": range(20, 28), "test": range(30, 38)}
    tasks = []
    for name, step in (("next", 1), ("before", -1)):
        files = {split: f"{name}.{split}.jsonl" for split in splits}
        for split, numbers in splits.items():
            rows = [json.dumps(_counting(split, number, step)) for number in numbers]
            (folder / files[split]).write_text("\n".join(rows))
        tasks.append({"name": name, "splits": {split: {"file": file} for split, file in files.items()}})
    (folder / "manifest.json").write_text(json.dumps({"suite": "counting", "tasks": tasks}))
    return folder


def _counting(split: str, row: int, step: int) -> dict[str, Any]:
    first, answer = WORDS[row % 10], WORDS[(row + step) % 10]
    asked = "next" if step > 0 else "before"
    return {
        "id": f"{asked}-{split}-{row}",
        "prompt": f"number {row} , what comes {asked} {first} ?",
        "completion": answer,
        "rationale": f"{first} and {answer}" if row % 2 else None,
        "references": [answer],
    }


def make_tokenizer(padding: bool = True, chat: bool = False) -> Any:
    """Return a byte-level BPE tokenizer with `</s>` as its end of sequence."""
    special = ["</s>", "<s>", "<|start|>", "<|turn|>"] + (["<pad>"] if padding else [])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TRAINING_TEXT, trainer)
    names = {"eos_token": "</s>", "bos_token": "<s>"} | ({"pad_token": "<pad>"} if padding else {})
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    if chat:
        made.chat_template = CHAT_TEMPLATE
    return made


def make_base(
    folder: Path, name: str, padding: bool = True, chat: bool = False, layers: int | None = None
) -> Path:
    """Save a model of random weights and its tokenizer as a Hugging Face folder."""
    tokenizer = make_tokenizer(padding, chat)
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    config = CONFIGS[name](vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **ids)
    if layers is not None:
        config.num_hidden_layers = layers
    form = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = form.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_vision_base(folder: Path) -> Path:
    """Save a model as `make_base` does, of text and images: Gemma 3 with its vision tower."""
    tokenizer = make_tokenizer()
    text = {**WIDTHS, **GROUPED, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    vision = {**WIDTHS, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    images = {"image_token_index": 5, "boi_token_index": 6, "eoi_token_index": 7, "mm_tokens_per_image": 4}
    config = Gemma3Config(text_config=text, vision_config=vision, **images)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def model_of(base: Path, data: PreparedData, **settings: Any) -> LanguageModel:
    model = from_base(ModelConfig(base_model=str(base), **{"max_length": 64, **settings}), data)
    assert isinstance(model, LanguageModel)
    return model


def examples_of(model: TaskModel, data: PreparedData, count: int = 3) -> list[Example]:
    """Rows of a generation task, some with a rationale, and of a classification task: of many lengths."""
    return [row for task in ("next", "size") for row in model.encode(data.split(task, "train"), task)[:count]]
