"""An encoder with one score a class: what training trains, extraction differentiates and users deploy."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModel, PreTrainedTokenizerBase

from gradsift.components.shared.data.prepared_data import PreparedData
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.base_model import BaseModel
from gradsift.components.shared.models.blocks import Block, blocks_of
from gradsift.components.shared.models.model_files import open_tokenizer
from gradsift.components.shared.models.model_weights import load_weights
from gradsift.components.shared.models.precision import autocast
from gradsift.components.shared.models.task_model import (
    MLFLOW_MODEL,
    Batch,
    Example,
    Rows,
    TaskModel,
    by_length,
)
from gradsift.components.shared.parameters.model import HeadKind, ModelConfig
from gradsift.components.shared.parameters.training import Precision
from gradsift.components.shared.storage.local import atomic_file
from gradsift.components.shared.tracking.serving import Serving

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Head:
    """Which classes there are and which of them each task chooses among.

    With `label_embedding`, a class is a label name: its weight is the base encoder's embedding of that name,
    kept fixed, and its score is `score_scale` times the cosine to the pooled text. Equal names mean the same in
    every task. With `linear`, a class is a label name within one set of label names, with a trained weight and
    bias: tasks with the same set share a head. There is never one head per task, for then a source with flipped
    labels would look harmless: its own head would flip back.

    Attributes:
        kind: `label_embedding` or `linear`.
        score_scale: factor on the cosine (label_embedding only).
        max_length: texts are cut to this many tokens.
        target: name of the target task.
        classes: what each class is called.
        tasks: for each task, its labels' class indices in the order of its labels.
    """

    kind: HeadKind
    score_scale: float
    max_length: int
    target: str
    classes: list[str]
    tasks: dict[str, list[int]]

    @classmethod
    def for_tasks(
        cls, kind: HeadKind, score_scale: float, max_length: int, target: str, labels: Mapping[str, list[str]]
    ) -> "Head":
        """Make the head for tasks given as `{task: label names}`."""
        classes: list[tuple[str, ...]] = []
        tasks = {}
        for task, names in labels.items():
            shared = () if kind == "label_embedding" else tuple(sorted(names))
            keys = [(name, *shared) for name in names]
            classes += [key for key in keys if key not in classes]
            tasks[task] = [classes.index(key) for key in keys]
        return cls(kind, score_scale, max_length, target, [key[0] for key in classes], tasks)

    @classmethod
    def of_config(cls, config: ModelConfig, data: PreparedData) -> "Head":
        """Make the head that a configuration asks for, for all tasks of the prepared data.

        Raises:
            InputError: a task is to be answered in free text.
        """
        for task in data.tasks:
            if task.kind == "generation":
                raise InputError(
                    f"Task {task.name!r} of suite {data.suite!r} is answered in free text, which the encoder "
                    f"{config.base_model!r} cannot: expected a causal or sequence-to-sequence language model."
                )
        kind: HeadKind = config.head
        return cls.for_tasks(kind, config.score_scale, config.max_length, data.target, data.labels)

    @property
    def task_names(self) -> list[str]:
        """The tasks, in the order that the model's task index counts."""
        return list(self.tasks)


class EncoderClassifier(TaskModel):
    """A Hugging Face encoder, mean pooling over tokens, and a `Head`."""

    encoder: Any
    tokenizer: Any
    task_classes: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        head: Head,
        weight: Tensor,
        bias: Tensor | None,
    ) -> None:
        """Put the parts together; `weight` is [n_classes, hidden], `bias` [n_classes] or None."""
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.head = head
        self.classifier = nn.Linear(weight.shape[1], weight.shape[0], bias=head.kind == "linear")
        self.classifier.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        self.classifier.requires_grad_(head.kind == "linear")
        task_classes = torch.zeros(len(head.tasks), len(head.classes), dtype=torch.bool)
        for row, indices in enumerate(head.tasks.values()):
            task_classes[row, indices] = True
        self.register_buffer("task_classes", task_classes, persistent=False)

    @classmethod
    def from_base(cls, base: BaseModel, head: Head) -> "EncoderClassifier":
        """Load the base encoder and make the head's weights: label embeddings, or zeros to be trained.

        Raises:
            InputError: the base model is not an encoder.
        """
        encoder, tokenizer = load_encoder(base.folder, base.name)
        hidden = encoder.config.hidden_size
        if head.kind == "linear":
            shape = (len(head.classes), hidden)
            return cls(encoder, tokenizer, head, torch.zeros(shape), torch.zeros(len(head.classes)))
        model = cls(encoder, tokenizer, head, torch.zeros(len(head.classes), hidden), None).eval()
        with torch.no_grad():
            embeddings = model.pooled(**model.tokenize([name.replace("_", " ") for name in head.classes]))
            model.classifier.weight.copy_(functional.normalize(embeddings, dim=-1))
        return model

    @classmethod
    def load(cls, folder: Path) -> "EncoderClassifier":
        """Load what `save` wrote."""
        encoder, tokenizer = load_encoder(folder, str(folder))
        tensors = load_file(folder / "head.safetensors")
        head = Head(**json.loads((folder / "head.json").read_text()))
        return cls(encoder, tokenizer, head, tensors["weight"], tensors.get("bias")).eval()

    def save(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write `model.safetensors`, config, tokenizer, `head.safetensors`, `head.json` and `serving.json`.

        Args:
            folder: where to.
            state: the weights, where they have been gathered from several processes; else the module's own.
        """
        state = dict(self.state_dict() if state is None else state)
        encoder_state = {
            name.removeprefix("encoder."): value.float().contiguous()
            for name, value in state.items()
            if name.startswith("encoder.")
        }
        self.encoder.save_pretrained(folder, state_dict=encoder_state)
        self.tokenizer.save_pretrained(folder)
        head_state = {
            name.removeprefix("classifier."): value.float().contiguous()
            for name, value in state.items()
            if name.startswith("classifier.")
        }
        with atomic_file(folder / "head.safetensors") as path:
            save_file(head_state, path)
        with atomic_file(folder / "head.json") as path:
            path.write_text(json.dumps(asdict(self.head), indent=1))
        Serving(MLFLOW_MODEL, {"label": "string", "probability": "double"}).write(folder)

    def freeze_embeddings(self) -> None:
        """Exclude the encoder's input embeddings (token, position, type and their norm) from training."""
        for parameter in self.embeddings().parameters():
            parameter.requires_grad_(False)

    def blocks(self) -> list[Block]:
        """Return all parameters in blocks; the head is the linear one."""
        return blocks_of(self, self.embeddings().parameters(), self.classifier.parameters())

    @property
    def shared(self) -> nn.Module:
        """The encoder."""
        encoder: nn.Module = self.encoder
        return encoder

    @property
    def hidden_size(self) -> int:
        """Width of the encoder's hidden states."""
        return self.classifier.in_features

    def embeddings(self) -> nn.Module:
        """Return the encoder's input embeddings module, or the token embedding where it has no such module."""
        module: nn.Module = getattr(self.encoder, "embeddings", None) or self.encoder.get_input_embeddings()
        return module

    def tokenize(self, texts: Sequence[str], pairs: Sequence[str | None] | None = None) -> dict[str, Tensor]:
        """Return padded model inputs [n, T] for texts, each with its second text where `pairs` has one."""
        return self.pad(self.encode_texts(texts, pairs))

    def encode(self, rows: Rows, task: str) -> list[Example]:
        """Return the examples of prepared rows: what the tokenizer gives, `task` and `label` (class) indices."""
        classes = self.head.tasks[task]
        index = self.head.task_names.index(task)
        encoded = self.encode_texts(rows["text"][:], rows["text_pair"][:])
        return [
            {**inputs, "task": index, "label": classes[label]}
            for inputs, label in zip(encoded, rows["label"][:], strict=True)
        ]

    def examples_of(self, texts: Sequence[str]) -> list[Example]:
        """Return examples of texts, as rows with the first label of the first task."""
        [task, *_] = self.head.tasks.values()
        return [{**inputs, "task": 0, "label": task[0]} for inputs in self.encode_texts(texts)]

    @property
    def encoding(self) -> dict[str, Any]:
        """What decides `encode`: the largest length, and the class indices of every task's labels."""
        return {"kind": "encoder", "max_length": self.head.max_length, "tasks": list(self.head.tasks.items())}

    def collate(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Pad examples to tensors [n, T], with `task` and `label` [n]."""
        indices = ("task", "label")
        encoded = [{name: example[name] for name in example if name not in indices} for example in examples]
        batch = dict(self.tokenizer.pad(encoded, return_tensors="pt"))
        return batch | {name: torch.tensor([example[name] for example in examples]) for name in indices}

    def encode_texts(
        self, texts: Sequence[str], pairs: Sequence[str | None] | None = None
    ) -> list[dict[str, list[int]]]:
        """Return unpadded model inputs, one dictionary a text, cut to the head's `max_length`."""
        pairs = pairs or [None] * len(texts)
        result: list[dict[str, list[int]]] = [{}] * len(texts)
        for paired in (False, True):
            rows = [row for row, pair in enumerate(pairs) if bool(pair) == paired]
            if rows:
                encoded = self.tokenizer(
                    [texts[row] for row in rows],
                    [pairs[row] for row in rows] if paired else None,
                    truncation=True,
                    max_length=self.head.max_length,
                )
                for position, row in enumerate(rows):
                    result[row] = {name: encoded[name][position] for name in encoded}
        return result

    def pad(self, encoded: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        """Pad the output of `encode_texts` to its longest row: tensors [n, T] on the model's device."""
        batch = self.tokenizer.pad(encoded, return_tensors="pt")
        return {name: value.to(self.classifier.weight.device) for name, value in batch.items()}

    def pooled(self, input_ids: Tensor, attention_mask: Tensor, **inputs: Tensor) -> Tensor:
        """Return the mean of the last hidden states over each row's tokens, [n, hidden]."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **inputs).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)

    def scores(self, task: Tensor, **inputs: Tensor) -> Tensor:
        """Return class scores [n, n_classes], minus infinity for classes that are not the row's task's."""
        return self.scores_of(task, self.pooled(**inputs))

    def scores_of(self, task: Tensor, features: Tensor) -> Tensor:
        """Return the class scores of pooled hidden states [n, hidden], as `scores` does."""
        if self.head.kind == "label_embedding":
            features = self.head.score_scale * functional.normalize(features, dim=-1)
        logits = self.classifier(features).float()
        return logits.masked_fill(~self.task_classes[task], -torch.inf)

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks that the model knows, in the order that its task index counts."""
        return self.head.task_names

    def label_names(self, task: str) -> list[str]:
        """Return the names of a task's labels."""
        return [self.head.classes[index] for index in self.head.tasks.get(task, [])]

    def answers(self, batch: Batch, with_hidden: bool = False) -> Answers:
        """Return the class scores, as those of one answer position; hidden states are the pooled ones."""
        inputs = dict(batch)
        task, label = inputs.pop("task"), inputs.pop("label")
        features = self.pooled(**inputs)
        logits = self.scores_of(task, features)
        return Answers(logits.unsqueeze(1), label.unsqueeze(1), features if with_hidden else None)

    @torch.no_grad()
    def log_probabilities(
        self,
        rows: "Dataset",
        task: str,
        batch_size: int = 64,
        report: Callable[[int], None] | None = None,
        precision: Precision = "float32",
    ) -> Tensor:
        """Return log-probabilities [n, n_labels] over the task's labels for prepared rows, in their order.

        Args:
            rows: rows with `text` and `text_pair`.
            task: the task whose labels the rows have.
            batch_size: rows at a time.
            report: called with the number of rows done after every batch.
            precision: what the encoder computes in; the result is float32.
        """
        self.eval()
        encoded = self.encode_texts(rows["text"][:], rows["text_pair"][:])
        result = torch.empty(len(encoded), len(self.head.tasks[task]))
        index = self.head.task_names.index(task)
        done = 0
        for batch in by_length(encoded, batch_size):
            inputs = self.pad([encoded[row] for row in batch])
            tasks = torch.full((len(batch),), index, device=self.classifier.weight.device)
            with autocast(tasks.device, precision):
                logits = self.scores(tasks, **inputs)[:, self.head.tasks[task]]
            result[batch] = functional.log_softmax(logits, dim=-1).cpu()
            done += len(batch)
            if report is not None:
                report(done)
        return result

    def predict(self, texts: Sequence[str], task: str) -> list[tuple[str, float]]:
        """Return the most probable label of `task` and its probability for each text."""
        rows = {"text": list(texts), "text_pair": [None] * len(texts)}
        best = self.log_probabilities(rows, task).exp().max(dim=-1)
        names = self.label_names(task)
        return [(names[index], float(value)) for value, index in zip(best.values, best.indices, strict=True)]


def load_encoder(folder: Path, name: str) -> tuple[Any, PreTrainedTokenizerBase]:
    """Load an encoder (safetensors only, no remote code) and its tokenizer from a folder.

    Raises:
        InputError: the files do not make an encoder with a tokenizer.
    """
    encoder = load_weights(AutoModel, folder, name, "an encoder", optional="pooler.")
    config = encoder.config
    is_encoder = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if not is_encoder or config.is_encoder_decoder or getattr(config, "is_decoder", False):
        raise InputError(f"The base model {name!r} is of type {config.model_type!r}: expected an encoder.")
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None
    return encoder, open_tokenizer(folder, name, pads=True)
