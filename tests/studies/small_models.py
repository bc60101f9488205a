"""Trains a small language model on a suite's train text, for a few minutes, where no pretrained one is at hand.

Usage: python -m tests.studies.small_models --kind gpt --suite SUITE --to FOLDER --minutes 4

Writes a folder like any of the Hugging Face hub: a Llama (`gpt`) or a T5 (`t5`) in safetensors, and a tokenizer of
byte-level BPE. The same command writes the same weights: minutes stand for a number of optimizer steps, those that
one idle core was measured to do. Prints the loss on train rows that were left out, in bits per byte of what the
model writes. The val and test splits are not read.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config
from transformers.models.t5.modeling_t5 import T5ForConditionalGeneration

from gradsift.components.shared.data.suites.suite_folder import SuiteFolder
from gradsift.components.shared.data.suites.suite_manifest import FolderTask
from gradsift.components.shared.data.suites.task import AnyRow, Row
from gradsift.components.shared.models.prompt_format import (
    Question,
    classification_question,
    generation_question,
)

Kind = Literal["gpt", "t5"]
Batch = dict[str, Tensor]

VOCABULARY, WIDTH, LAYERS, HEADS = 4096, 128, 4, 4
CONTEXT = 512
"""Tokens that a GPT takes."""
TOKENS = 128
"""Tokens of an example, for a T5 of each of its sides."""
BATCH_ROWS = 16
LEARNING_RATE = 2e-3
STEPS_A_MINUTE = {"gpt": 140, "t5": 140}
HELD_OUT_EACH = 50
"""One train row of so many is left out."""
END, PADDING = "</s>", "<pad>"
IGNORED = -100


def train_small_model(
    kind: Kind, suite: Path, folder: Path, steps: int, width: int = WIDTH
) -> tuple[float, float]:
    """Train a model, save it with its tokenizer, and return bits per byte on held-out rows before and after."""
    torch.manual_seed(0)
    rows = suite_questions(suite)
    training = [row for number, row in enumerate(rows) if number % HELD_OUT_EACH]
    tokenizer = train_tokenizer([f"{row.text}{row.after} {row.answer}" for row in training])
    lm = new_model(kind, tokenizer, width)
    examples = tokenize(kind, training, tokenizer)
    left_out = tokenize(kind, rows[::HELD_OUT_EACH], tokenizer)
    before = bits_per_byte(lm, left_out, tokenizer)
    train(lm, examples, steps)
    after = bits_per_byte(lm, left_out, tokenizer)
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return before, after


def suite_questions(suite: Path) -> list[Question]:
    """Return what the train rows of all tasks in a suite's folder ask, as gradsift asks it."""
    source = SuiteFolder(str(suite))
    own = [entry for entry in source.manifest.tasks if isinstance(entry, FolderTask)]
    tasks = [source.read(entry, ["train"]) for entry in own]
    return [question(row, task.labels) for task in tasks for row in task.splits["train"]]


def question(row: AnyRow, labels: list[str]) -> Question:
    """Return what a row asks."""
    if isinstance(row, Row):
        return classification_question(row.text, row.text_pair, labels, row.label)
    return generation_question(row.prompt, row.completion, row.rationale)


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer, which puts no token of its own beside those of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PADDING, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PADDING)


def new_model(kind: Kind, tokenizer: PreTrainedTokenizerFast, width: int) -> Any:
    """Return a model of random weights."""
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    if kind == "t5":
        return T5ForConditionalGeneration(
            T5Config(
                vocab_size=len(tokenizer),
                d_model=width,
                d_kv=width // HEADS,
                d_ff=4 * width,
                num_layers=LAYERS // 2,
                num_heads=HEADS,
                dropout_rate=0,
                decoder_start_token_id=tokenizer.pad_token_id,
                **ids,
            )
        )
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=width * 8 // 3,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            **ids,
        )
    )


def tokenize(
    kind: Kind, rows: list[Question], tokenizer: PreTrainedTokenizerFast
) -> list[tuple[Tensor, Tensor]]:
    """Return what a model reads and what it writes, one pair of token ids an example.

    A GPT reads and writes all text, one row after the other. A T5 reads a row's prompt and writes its answer, and
    once more reads half of the prompt and writes what follows, as answers alone are too short to learn from.
    """
    end = tokenizer.eos_token_id
    if kind == "gpt":
        texts = tokenizer([f"{row.text}{row.after} {row.answer}" for row in rows])["input_ids"]
        stream = torch.tensor([token for text in texts for token in [*text, end]])
        return [(block, block) for block in stream.split(TOKENS) if len(block) > 1]
    prompts = tokenizer([f"{row.text}{row.after}" for row in rows])["input_ids"]
    answers = tokenizer([row.answer for row in rows])["input_ids"]
    pairs = list(zip(prompts, answers, strict=True))
    halves = [(prompt[: len(prompt) // 2], prompt[len(prompt) // 2 :] + answer) for prompt, answer in pairs]
    return [
        (torch.tensor(read[-TOKENS:]), torch.tensor([*written, end][:TOKENS]))
        for read, written in [*pairs, *halves]
    ]


def train(lm: Any, examples: list[tuple[Tensor, Tensor]], steps: int) -> None:
    """Train by AdamW, with a linear warm-up over a twentieth of the steps and a linear fall to zero."""
    lm.train()
    optimizer = torch.optim.AdamW(lm.parameters(), LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.1)
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (steps - step) / (steps - warm_up + 1))
    )
    for _, batch in zip(tqdm(range(steps), desc="train", unit="step"), batches(lm, examples), strict=False):
        lm(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def batches(lm: Any, examples: list[tuple[Tensor, Tensor]]) -> Iterator[Batch]:
    """Yield shuffled batches, pass after pass."""
    while True:
        for chosen in torch.randperm(len(examples)).split(BATCH_ROWS):
            yield padded([examples[row] for row in chosen], lm.config.pad_token_id)


def padded(examples: list[tuple[Tensor, Tensor]], padding: int) -> Batch:
    """Return a batch as the models of `transformers` take it."""
    read, written = zip(*examples, strict=True)
    ids = pad_sequence(list(read), batch_first=True, padding_value=padding)
    labels = pad_sequence(list(written), batch_first=True, padding_value=IGNORED)
    return {"input_ids": ids, "attention_mask": (ids != padding).long(), "labels": labels}


@torch.no_grad()
def bits_per_byte(
    lm: Any, examples: list[tuple[Tensor, Tensor]], tokenizer: PreTrainedTokenizerFast
) -> float:
    """Return the mean loss on what is to be written, in bits per byte of it."""
    lm.eval()
    nats, size = 0.0, 0
    for first in range(0, len(examples), BATCH_ROWS):
        batch = padded(examples[first : first + BATCH_ROWS], lm.config.pad_token_id)
        scored = batch["labels"] if lm.config.is_encoder_decoder else batch["labels"][:, 1:]
        tokens = scored[scored != IGNORED]
        nats += lm(**batch).loss.item() * len(tokens)
        size += len(str(tokenizer.decode(tokens, skip_special_tokens=True)).encode())
    return nats / math.log(2) / size


def main() -> None:
    """Read the command line, train and save."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--kind", choices=["gpt", "t5"], required=True)
    options.add_argument("--suite", type=Path, required=True, help="folder of a task suite")
    options.add_argument("--to", type=Path, required=True, help="folder to write the model into")
    options.add_argument("--minutes", type=float, default=4.0, help="of one idle core")
    given = options.parse_args()
    torch.set_num_threads(1)
    steps = round(given.minutes * STEPS_A_MINUTE[given.kind])
    before, after = train_small_model(given.kind, given.suite, given.to, steps)
    print(
        f"{given.to}: {steps} steps, {before:.2f} bits per byte on held-out rows before, {after:.2f} after."
    )


if __name__ == "__main__":
    main()
