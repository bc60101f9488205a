"""A causal or sequence-to-sequence language model that writes answers: trained, differentiated and deployed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedTokenizerBase

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.base_model import BaseModel, find_base_model
from gradsift.components.shared.models.blocks import Block, blocks_of
from gradsift.components.shared.models.labels import NO_ANSWER, last_answer
from gradsift.components.shared.models.last_states import run_without_scores
from gradsift.components.shared.models.lora import add_adapter, load_adapter, save_adapter
from gradsift.components.shared.models.model_kind import LANGUAGE_MODEL, kind_of, max_tokens_of
from gradsift.components.shared.models.pretrained_language_model import (
    decoder_start_of,
    load_language_model,
    padding_of,
    takes_positions,
)
from gradsift.components.shared.models.prompt_format import (
    PromptFormat,
    answer_does_not_fit,
    final_answer,
    questions,
)
from gradsift.components.shared.models.task_model import (
    MLFLOW_MODEL,
    Batch,
    Example,
    Rows,
    TaskModel,
    by_length,
)
from gradsift.components.shared.parameters.model import ModelConfig
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.serving import Serving

WRITTEN_BATCH = 16


@dataclass(frozen=True)
class Settings:
    """What describes a language model beside its weights.

    Attributes:
        base_model: the name of the pretrained weights.
        base_digest: their digest, so that an adapter is never put on others.
        encoder_decoder: whether it is a sequence-to-sequence model.
        chat: whether it is asked by the tokenizer's chat template.
        max_length: see `PromptFormat`.
        target: name of the target task.
        labels: for each task its label names, none for generation.
        adapter: whether LoRA adapters are trained instead of the weights.
    """

    base_model: str
    base_digest: str
    encoder_decoder: bool
    chat: bool
    max_length: int
    target: str
    labels: dict[str, list[str]]
    adapter: bool


class LanguageModel(TaskModel):
    """A Hugging Face language model, and how it is asked.

    Rows of a batch are padded so that no real token sees padding: a causal model's on the left, where every answer
    ends in the last column and scores are computed for the answers' columns alone; a sequence-to-sequence model's
    on the right.
    """

    lm: Any

    def __init__(self, lm: nn.Module, tokenizer: PreTrainedTokenizerBase, settings: Settings) -> None:
        """Put the parts together; `lm` may carry adapters."""
        super().__init__()
        self.lm = lm
        self.tokenizer = tokenizer
        self.settings = settings
        self.format = PromptFormat(tokenizer, settings.encoder_decoder, settings.chat, settings.max_length)
        self.padding = padding_of(tokenizer)
        self.takes_positions = takes_positions(lm)

    @classmethod
    def from_base(cls, base: BaseModel, config: ModelConfig, data: PreparedData) -> "LanguageModel":
        """Load the pretrained model and put adapters on it where they are asked for.

        Raises:
            InputError: it cannot be loaded, has no chat template where one is asked for, or has no module that an
                adapter was asked for.
        """
        encoder_decoder = kind_of(base.folder, base.name) == "seq2seq"
        lm, tokenizer = load_language_model(base.folder, base.name, encoder_decoder)
        form = PromptFormat.of(tokenizer, encoder_decoder, config.prompt_form, config.max_length, base.name)
        settings = Settings(
            base_model=base.name,
            base_digest=base.digest,
            encoder_decoder=encoder_decoder,
            chat=form.chat,
            max_length=config.max_length,
            target=data.target,
            labels=data.labels,
            adapter=config.lora_rank > 0,
        )
        if settings.adapter:
            lm = add_adapter(lm, base, config, "SEQ_2_SEQ_LM" if encoder_decoder else "CAUSAL_LM")
        return cls(lm, tokenizer, settings).eval()

    @classmethod
    def load(cls, folder: Path) -> "LanguageModel":
        """Load what `save` wrote; an adapter's base is found by its name.

        Raises:
            InputError: the base is not found, or is not the one that the adapter was trained on.
        """
        settings = Settings(**json.loads((folder / LANGUAGE_MODEL).read_text()))
        if not settings.adapter:
            lm, tokenizer = load_language_model(folder, str(folder), settings.encoder_decoder)
            return cls(lm, tokenizer, settings).eval()
        base = find_base_model(settings.base_model)
        if base.digest != settings.base_digest:
            raise InputError(
                f"The adapter in {folder} was trained on the weights {settings.base_digest} of the base model "
                f"{settings.base_model!r}: expected these, found {base.digest} in {base.folder}."
            )
        lm, tokenizer = load_language_model(base.folder, base.name, settings.encoder_decoder)
        return cls(load_adapter(lm, folder), tokenizer, settings).eval()

    def save(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write the weights in one safetensors file, or the adapter alone, with tokenizer and settings."""
        every = {name for name, _ in self.named_parameters(remove_duplicate=False)}
        tied = every - {name for name, _ in self.named_parameters()}
        state = {
            name.removeprefix("lm."): value.float().contiguous()
            for name, value in (self.state_dict() if state is None else state).items()
            if name not in tied
        }
        if self.settings.adapter:
            save_adapter(self.lm, folder, state)
        else:
            self.lm.save_pretrained(folder, state_dict=state, max_shard_size="1000TB")
        self.tokenizer.save_pretrained(folder)
        with atomic_file(folder / LANGUAGE_MODEL) as path:
            path.write_text(json.dumps(asdict(self.settings), indent=1))
        Serving(MLFLOW_MODEL, {"answer": "string"}).write(folder)

    @property
    def shared(self) -> nn.Module:
        """The whole model: every task is answered by the same weights."""
        return self

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        size: int = self.lm.config.get_text_config().hidden_size
        return size

    def freeze_embeddings(self) -> None:
        """Exclude every embedding table (tokens, positions, relative positions) and the output layer from training.

        The output layer is excluded with them because many models share its weight with the token embedding. Where
        adapters are trained, nothing else is.
        """
        if self.settings.adapter:
            return
        for module in (*self._tables(), self.lm.get_output_embeddings()):
            module.requires_grad_(False)

    def blocks(self) -> list[Block]:
        """Return all parameters in blocks; the head is the final norm and the output layer."""
        tables = [each for table in self._tables() for each in table.parameters()]
        return blocks_of(self, tables, self.lm.get_output_embeddings().parameters())

    def _tables(self) -> list[nn.Embedding]:
        return [module for module in self.lm.modules() if isinstance(module, nn.Embedding)]

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks that the model knows."""
        return list(self.settings.labels)

    def label_names(self, task: str) -> list[str]:
        """Return the names of a task's labels."""
        return self.settings.labels.get(task, [])

    def encode(self, rows: Rows, task: str) -> list[Example]:
        """Return the examples of prepared rows: `input_ids` and `label`, a row's `Tokens`."""
        examples = []
        asked = list(questions(rows, self.settings.labels[task]))
        for row_id, tokens in zip(rows["id"][:], self.format.tokens(asked), strict=True):
            if tokens is None:
                raise answer_does_not_fit(row_id, task, self.settings.max_length)
            examples.append({"input_ids": tokens.prompt, "label": tokens.answer})
        return examples

    def examples_of(self, texts: Sequence[str]) -> list[Example]:
        """Return examples that answer texts with their own first tokens, without the form of a prompt."""
        prompts = [self.tokenizer(text)["input_ids"] for text in texts]
        return [{"input_ids": prompt, "label": prompt[:2]} for prompt in prompts]

    @property
    def encoding(self) -> dict[str, Any]:
        """What decides `encode`: the form of prompts, the largest length, and every task's labels."""
        return {"kind": "language model", **self.format.decided_by, "labels": self.settings.labels}

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Pad examples to `input_ids` [n, T], `attention_mask` [n, T] and `label` [n, C].

        A causal model's inputs are the prompt and the last answer without its last token; a sequence-to-sequence
        model's are the prompt.
        """
        answers = [example["label"] for example in examples]
        read = [example["input_ids"] for example in examples]
        if not self.settings.encoder_decoder:
            read = [
                [*prompt, *last_answer(answer)[:-1]] for prompt, answer in zip(read, answers, strict=True)
            ]
        return {
            "input_ids": self._padded(read, self.padding),
            "attention_mask": self._padded([[1] * len(ids) for ids in read], 0),
            "label": self._padded(answers, NO_ANSWER),
        }

    def answers(self, batch: Batch, with_hidden: bool = False) -> Answers:
        """Return the token scores at the answers' positions; hidden states are those of the inputs."""
        mask, label = batch["attention_mask"], batch["label"]
        inputs = {"input_ids": batch["input_ids"], "attention_mask": mask, "use_cache": False}
        if self.settings.encoder_decoder:
            inputs["decoder_input_ids"] = self._shifted(label)
        else:
            inputs |= {"logits_to_keep": label.shape[1], "output_hidden_states": with_hidden}
            if self.takes_positions:
                inputs["position_ids"] = positions_of(mask)
        if self.scores_in_parts:
            outputs, states, head = run_without_scores(self.lm, inputs)
            states = states[:, -label.shape[1] :]
        else:
            outputs = self.lm(**inputs)
            states, head = outputs.logits.float(), None
        hidden = None
        if with_hidden:
            seq2seq = self.settings.encoder_decoder
            hidden = _mean(outputs.encoder_last_hidden_state if seq2seq else outputs.hidden_states[-1], mask)
        return Answers(states, label, hidden, head)

    def generate(
        self,
        examples: Sequence[Example],
        max_new_tokens: int,
        report: Callable[[int], None] = lambda rows: None,
    ) -> list[str]:
        """Return the answers that the model writes by greedy decoding after the examples' prompts.

        It ends where these examples' answers do, or where there is no more room for the model to write.

        Args:
            examples: what `encode` returned.
            max_new_tokens: most tokens written for each.
            report: called with the number of examples after every batch.
        """
        ends = {self.tokenizer.eos_token_id, *(example["label"][-1] for example in examples)}
        written = [""] * len(examples)
        for rows in by_length(examples, WRITTEN_BATCH):
            prompts = [examples[row]["input_ids"] for row in rows]
            for row, text in zip(rows, self._generate(prompts, max_new_tokens, sorted(ends)), strict=True):
                written[row] = self.format.answer_in(text)
            report(len(rows))
        return written

    @torch.no_grad()
    def _generate(self, prompts: list[list[int]], max_new_tokens: int, ends: list[int]) -> list[str]:
        ids = self._padded(prompts, self.padding).to(self.device)
        mask = self._padded([[1] * len(prompt) for prompt in prompts], 0).to(self.device)
        room = max_tokens_of(self.lm.config)
        if room is not None and not self.settings.encoder_decoder:
            max_new_tokens = min(max_new_tokens, room - ids.shape[1])
        greedy = GenerationConfig(
            max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=ends, pad_token_id=self.padding
        )
        written = self.lm.generate(input_ids=ids, attention_mask=mask, generation_config=greedy)
        new = written if self.settings.encoder_decoder else written[:, ids.shape[1] :]
        texts: list[str] = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts

    def write(self, texts: Sequence[str]) -> list[str]:
        """Return the target task's answers to texts (prompts, or what is to be labelled), without rationales."""
        nothing = [None] * len(texts)
        rows: Rows = {"id": texts, "text": texts, "text_pair": nothing, "label": [0] * len(texts)}
        if not self.settings.labels[self.settings.target]:
            rows = {"id": texts, "prompt": texts, "completion": [""] * len(texts), "rationale": nothing}
        examples = self.encode(rows, self.settings.target)
        return [final_answer(answer) for answer in self.generate(examples, self.settings.max_length)]

    def _padded(self, rows: Sequence[Sequence[int]], value: int) -> Tensor:
        """Return rows [n, longest], filled with `value` on the side that the model is padded on."""
        longest = max(map(len, rows))
        result = torch.full((len(rows), longest), value)
        for number, row in enumerate(rows):
            first = 0 if self.settings.encoder_decoder else longest - len(row)
            result[number, first : first + len(row)] = torch.tensor(row)
        return result

    def _shifted(self, label: Tensor) -> Tensor:
        """Return the decoder's inputs [n, C]: its start token, and the answer without its last token."""
        start: Any = decoder_start_of(self.lm)  # the loading has seen that there is one
        first = label.new_full((len(label), 1), start)
        return torch.cat([first, label[:, :-1].masked_fill(label[:, :-1] == NO_ANSWER, self.padding)], dim=1)


def positions_of(attention_mask: Tensor) -> Tensor:
    """Return each token's place in its row [n, T], whatever side the row is padded on; 0 at padding before it."""
    return (attention_mask.cumsum(1) - 1).clamp(min=0)


def _mean(states: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean of hidden states [n, T, h] over each row's tokens, [n, h]."""
    mask = attention_mask.unsqueeze(-1).to(states.dtype)
    return (states * mask).sum(1) / mask.sum(1)
