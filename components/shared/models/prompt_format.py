"""How a row becomes the tokens that a language model reads and those that it is to write.

The plain form of a causal model is `<prompt> <answer><end of sequence>`, with one space between. With a chat
template, the prompt is the user's message and the answer the assistant's, with what the template writes around it
(the model must write that too; it is no part of the answer that is read back). A sequence-to-sequence model reads
the prompt and writes the answer.

    generation: the prompt is the row's, the answer its completion; with a rationale, the answer is the rationale,
        a line feed, `Answer: ` and the completion.
    classification: the prompt is the text, the second text where there is one, `Options: ` with the task's label
        names, and `Answer:`, each on a line of its own; the answer is the label's name.

Prompts lose white space at their end. One that is too long loses the beginning of the row's own text, never the
template or the options. An answer is never cut.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.chat_rendering import (
    PROMPT_DATE,
    AnswerFrame,
    answer_frame,
    chat_texts,
)
from gradsift.components.shared.parameters.model import PromptForm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = "Answer:"
Fit = Literal["whole", "cut", "too_long"]
"""Whether a row fits with all of its text, with its text cut, or not at all."""


class Question(NamedTuple):
    """What a row asks: its own text, which may lose its beginning, what follows it, and the right answer."""

    text: str
    after: str
    answer: str

    @property
    def prompt(self) -> str:
        """The text that a model reads."""
        return self.text + self.after

    @property
    def completion(self) -> str:
        """The answer as the plain form appends it to the prompt."""
        return f" {self.answer}"


class Tokens(NamedTuple):
    """A row's token ids: what is read first, and what is to be written, its end included."""

    prompt: list[int]
    answer: list[int]


@dataclass(frozen=True)
class PromptFormat:
    """Turns questions into tokens.

    Attributes:
        tokenizer: the model's tokenizer.
        encoder_decoder: whether the model reads the prompt and writes the answer apart from each other.
        chat: whether the tokenizer's chat template is used.
        max_length: largest number of tokens of prompt and answer together, or of each with `encoder_decoder`.
    """

    tokenizer: "PreTrainedTokenizerBase"
    encoder_decoder: bool
    chat: bool
    max_length: int

    @classmethod
    def of(
        cls,
        tokenizer: "PreTrainedTokenizerBase",
        encoder_decoder: bool,
        form: PromptForm,
        max_length: int,
        name: str,
    ) -> "PromptFormat":
        """Choose the form for the base model `name`.

        Raises:
            InputError: a chat template was asked for and is not there, or fails, or there is no end of sequence.
        """
        if tokenizer.eos_token_id is None:
            raise InputError(f"The tokenizer of the base model {name!r} has no end-of-sequence token.")
        has_template = bool(tokenizer.chat_template) and not encoder_decoder
        if form == "chat" and not has_template:
            reason = "a sequence-to-sequence model is asked plainly" if encoder_decoder else "it has none"
            raise InputError(
                "Parameter prompt_form is 'chat': expected 'plain' or 'auto', or a base model with a chat template "
                f"in place of {name!r} ({reason})."
            )
        chat = has_template and form != "plain"
        prompt_format = cls(tokenizer, encoder_decoder, chat, max_length)
        if chat:
            _ = prompt_format.frame
        return prompt_format

    @cached_property
    def frame(self) -> AnswerFrame:
        """What the chat template writes around an answer, which the model must write too."""
        return answer_frame(self.tokenizer)

    @property
    def decided_by(self) -> dict[str, Any]:
        """What decides a question's tokens beside the tokenizer: JSON values."""
        date = {"date": PROMPT_DATE.isoformat()} if self.chat else {}
        return {
            "encoder_decoder": self.encoder_decoder,
            "chat": self.chat,
            "max_length": self.max_length,
            **date,
        }

    def answer_in(self, written: str) -> str:
        """Return the answer in a text that a model wrote, without what the chat template writes around it."""
        if not self.chat:
            return written
        before, after = self._read_frame
        return written.strip().removeprefix(before).removesuffix(after).strip()

    @cached_property
    def _read_frame(self) -> tuple[str, str]:
        """The frame as it is read back, without special tokens and white space around it."""
        before, after = (
            str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip() for ids in self._ids(self.frame)
        )
        return before, after

    def tokens(self, questions: Sequence[Question]) -> list[Tokens | None]:
        """Return the tokens of questions, a text cut as far as needed; None where an answer does not fit."""
        return [
            whole if self._fits(whole) else self._cut_tokens(question)
            for question, whole in zip(questions, self._whole_tokens(questions), strict=True)
        ]

    def _cut_tokens(self, question: Question) -> Tokens | None:
        """Return the tokens of a question that does not fit whole."""

        def cut(characters: int) -> Tokens:
            [tokens] = self._whole_tokens([question._replace(text=question.text[characters:])])
            return tokens

        if not self._has_room(question):
            return None
        most = len(question.text) - 1
        return cut(bisect_left(range(most), True, key=lambda characters: self._fits(cut(characters))))

    def fit(self, question: Question) -> Fit:
        """Return how a question fits: it is too long if its answer has no room beside the text's last character."""
        [whole] = self._whole_tokens([question])
        if self._fits(whole):
            return "whole"
        return "cut" if self._has_room(question) else "too_long"

    def _has_room(self, question: Question) -> bool:
        [shortest] = self._whole_tokens([question._replace(text=question.text[-1:])])
        return self._fits(shortest)

    def length(self, question: Question) -> int:
        """Return the number of tokens that a question needs to fit whole, which `max_length` bounds."""
        [whole] = self._whole_tokens([question])
        return self._length(whole)

    def _fits(self, tokens: Tokens) -> bool:
        return self._length(tokens) <= self.max_length

    def _length(self, tokens: Tokens) -> int:
        sizes = (len(tokens.prompt), len(tokens.answer))
        return max(sizes) if self.encoder_decoder else sum(sizes)

    def _whole_tokens(self, questions: Sequence[Question]) -> list[Tokens]:
        if self.encoder_decoder:
            prompts = self.tokenizer([question.prompt for question in questions])["input_ids"]
            answers = self.tokenizer(text_target=[question.answer for question in questions])["input_ids"]
            return [Tokens(*both) for both in zip(prompts, map(self._ended, answers), strict=True)]
        if self.chat:
            start: list[int] = []
            texts = [
                chat_texts(self.tokenizer, self.frame, question.prompt, question.answer)
                for question in questions
            ]
        else:
            start = self._start_tokens()
            texts = [(question.prompt, question.prompt + question.completion) for question in questions]
        ids = zip(
            self._ids([prompt for prompt, _ in texts]), self._ids([whole for _, whole in texts]), strict=True
        )
        return [
            Tokens(start + read, self._ended(self._written(text, read, both)))
            for text, (read, both) in zip(texts, ids, strict=True)
        ]

    def _written(self, text: tuple[str, str], read: list[int], both: list[int]) -> list[int]:
        """Return what follows the prompt's tokens, or the answer's own where the two were joined to one token."""
        if both[: len(read)] == read:
            return both[len(read) :]
        prompt, whole = text
        [written] = self._ids([whole[len(prompt) :]])
        return written

    def _start_tokens(self) -> list[int]:
        """Return the beginning of sequence where the tokenizer puts one."""
        start = self.tokenizer.bos_token_id
        return [start] if start in self.tokenizer("")["input_ids"] else []

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def _ended(self, answer: list[int]) -> list[int]:
        """Return the answer with an end: the template's own, or the end of sequence."""
        known = self.tokenizer.added_tokens_decoder.get(answer[-1]) if answer else None
        return answer if known is not None and known.special else [*answer, self.tokenizer.eos_token_id]


def questions(rows: Any, labels: Sequence[str]) -> Iterator[Question]:
    """Yield what each prepared row asks.

    Args:
        rows: prepared rows of one task (see `prepared_data`), or anything that gives a column by its name.
        labels: the task's label names; none for generation.
    """
    if labels:
        for text, pair, label in zip(rows["text"][:], rows["text_pair"][:], rows["label"][:], strict=True):
            yield classification_question(text, pair, labels, label)
    else:
        columns = (rows["prompt"][:], rows["completion"][:], rows["rationale"][:])
        for prompt, completion, rationale in zip(*columns, strict=True):
            yield generation_question(prompt, completion, rationale)


def classification_question(text: str, pair: str | None, labels: Sequence[str], label: int) -> Question:
    """Return the question which of a task's labels a text has."""
    names = [label_text(name) for name in labels]
    text = text if pair is None else f"{text}\n{pair}"
    return Question(text, f"\nOptions: {', '.join(names)}\n{ANSWER}", names[label])


def generation_question(prompt: str, completion: str, rationale: str | None) -> Question:
    """Return the question of a generation row, whose answer begins with the rationale where there is one."""
    answer = completion if rationale is None else f"{rationale}\n{ANSWER} {completion}"
    return Question(prompt.rstrip(), "", answer)


def label_text(name: str) -> str:
    """Return a label's name as a model reads and writes it."""
    return name.replace("_", " ")


def final_answer(written: str) -> str:
    """Return the completion in what a model wrote: what follows the last `Answer:`, or all of it."""
    return written.rpartition(ANSWER)[2].strip()


def answer_does_not_fit(row_id: str, task: str, max_length: int) -> InputError:
    """Return the error for a row whose answer leaves no room for a prompt."""
    return InputError(
        f"Row {row_id!r} of task {task!r} has a completion that does not fit into {max_length} tokens with the "
        "shortest prompt: expected a larger max_length, or a shorter completion."
    )
