"""How a row becomes the tokens that a language model reads and those that it is to write.

The plain form of a causal model is `<prompt> <answer><end of sequence>`, with one space between. With a chat
template, the prompt is the user's message and the answer the assistant's, with what the template writes around it
(the model must write that too; it is no part of the answer that is read back). A sequence-to-sequence model reads
the prompt and writes the answer.

    generation: the prompt is the row's, the answer its completion; with a rationale, the answer is the rationale,
        a line feed, `Answer: ` and the completion.
    classification: the prompt is the text, the second text where there is one, `Options: ` with the task's label
        names, and `Answer:`, each on a line of its own; the answer is the label's name.
    conversation: the messages before the assistant's last one; the answer is that. In the plain form, each message
        begins a line with `System: `, `User: ` or `Assistant: `, and `Assistant:` ends the prompt. A causal model
        also learns the answers in the prompt, where they are to be learned.

Prompts lose white space at their end. A conversation that is too long loses its oldest turns; then, or without any,
a prompt loses the beginning of the row's own text, never the template, the options or the system's messages at the
beginning. An answer is never cut.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gradsift.components.shared.data.prepared_data import ALL_TURNS, EARLIER, Message, has_conversations
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.chat_rendering import (
    PROMPT_DATE,
    AnswerFrame,
    answer_frame,
    chat_texts,
    earlier_answers,
    tokens_between,
)
from gradsift.components.shared.models.labels import NO_ANSWER, last_answer
from gradsift.components.shared.parameters.model import PromptForm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = "Answer:"
Fit = Literal["whole", "cut", "too_long"]
"""Whether a row fits with all of its text, with its text cut, or not at all."""


class Question(NamedTuple):
    """What a row asks.

    Attributes:
        text: its own text, which may lose its beginning.
        after: what follows the text.
        answer: the right answer.
        earlier: the messages of a conversation before the text.
        all_turns: whether the assistant's answers among them are learned too.
    """

    text: str
    after: str
    answer: str
    earlier: Sequence[Message] = ()
    all_turns: bool = False

    @property
    def prompt(self) -> str:
        """The text that the answer follows."""
        return self.text + self.after

    @property
    def asked(self) -> list[Message]:
        """The messages before the answer."""
        return [*self.earlier, {"role": "user", "content": self.prompt}]

    @property
    def transcript(self) -> str:
        """The messages before the answer as the plain form writes them."""
        return "".join(self._lines)

    @property
    def earlier_places(self) -> list[tuple[int, int]]:
        """Where the assistant's earlier answers begin and end in the transcript."""
        ends = list(accumulate(map(len, self._lines)))
        return [
            (end - len(f" {message['content']}\n"), end - len("\n"))
            for message, end in zip(self.earlier, ends, strict=False)
            if message["role"] == "assistant"
        ]

    @property
    def _lines(self) -> list[str]:
        if not self.earlier:
            return [self.prompt]
        return [f"{each['role'].capitalize()}: {each['content']}\n" for each in self.asked] + ["Assistant:"]

    @property
    def shorter(self) -> "list[Question]":
        """The same question with fewer and fewer of the oldest turns, each from a message of the user on."""
        roles = [message["role"] for message in self.earlier]
        kept = next((place for place, role in enumerate(roles) if role != "system"), len(roles))
        starts = [place for place, role in enumerate(roles) if role == "user" and place > kept]
        if kept < len(roles):
            starts.append(len(roles))
        return [self._replace(earlier=[*self.earlier[:kept], *self.earlier[start:]]) for start in starts]

    @property
    def completion(self) -> str:
        """The answer as the plain form appends it to the prompt."""
        return f" {self.answer}"


class Tokens(NamedTuple):
    """A row's token ids.

    Attributes:
        prompt: what is read before the answer.
        answer: what is to be written, its end included. Where earlier answers are learned, it begins with the first
            of them, which is in the prompt too, and has `NO_ANSWER` in place of what is between answers.
    """

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

        if not self.has_room(question):
            return None
        shorter = question.shorter
        turn = bisect_left(shorter, True, key=self._fits_whole)
        if turn < len(shorter):
            [tokens] = self._whole_tokens([shorter[turn]])
            return tokens
        question = shorter[-1] if shorter else question
        most = len(question.text) - 1
        return cut(bisect_left(range(most), True, key=lambda characters: self._fits(cut(characters))))

    def has_room(self, question: Question) -> bool:
        """Return whether a question's answer has room beside the text's last character, without earlier turns."""
        shortest = question.shorter[-1] if question.shorter else question
        return self._fits_whole(shortest._replace(text=question.text[-1:]))

    def length(self, question: Question) -> int:
        """Return the number of tokens that a question needs to fit whole, which `max_length` bounds."""
        [whole] = self._whole_tokens([question])
        return self._length(whole)

    def _fits_whole(self, question: Question) -> bool:
        return self.length(question) <= self.max_length

    def _fits(self, tokens: Tokens) -> bool:
        return self._length(tokens) <= self.max_length

    def _length(self, tokens: Tokens) -> int:
        sizes = (len(tokens.prompt), len(last_answer(tokens.answer)))
        return max(sizes) if self.encoder_decoder else sum(sizes)

    def _whole_tokens(self, questions: Sequence[Question]) -> list[Tokens]:
        if self.encoder_decoder:
            prompts = self.tokenizer([question.transcript for question in questions])["input_ids"]
            answers = self.tokenizer(text_target=[question.answer for question in questions])["input_ids"]
            return [Tokens(*both) for both in zip(prompts, map(self._ended, answers), strict=True)]
        if self.chat:
            start: list[int] = []
            texts = [
                chat_texts(self.tokenizer, self.frame, question.asked, question.answer)
                for question in questions
            ]
        else:
            start = self._start_tokens()
            texts = [
                (question.transcript, question.transcript + question.completion) for question in questions
            ]
        ids = zip(
            self._ids([prompt for prompt, _ in texts]), self._ids([whole for _, whole in texts]), strict=True
        )
        return [
            Tokens(
                start + read,
                self._earlier_answers(question, read) + self._ended(self._written(text, read, both)),
            )
            for question, text, (read, both) in zip(questions, texts, ids, strict=True)
        ]

    def _earlier_answers(self, question: Question, read: list[int]) -> list[int]:
        """Return the prompt's tokens from the first answer to learn on, `NO_ANSWER` in place of what is none.

        The first token follows nothing that it could be learned from; what stands before the last answer is none.
        """
        if not question.all_turns or not any(message["role"] == "assistant" for message in question.earlier):
            return []
        if self.chat:
            written = earlier_answers(self.tokenizer, self.frame, question.asked)
        else:
            written = tokens_between(self.tokenizer, question.transcript, question.earlier_places)
        places = [place for place in range(1, len(read) - 1) if written[place]]
        label = [NO_ANSWER] * len(read)
        for place in places:
            label[place] = read[place]
        return label[places[0] :] if places else []

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
        names = ["prompt", "completion", "rationale"]
        if has_conversations(rows):
            names += [EARLIER, ALL_TURNS]
        for values in zip(*(rows[name][:] for name in names), strict=True):
            yield generation_question(*values)


def classification_question(text: str, pair: str | None, labels: Sequence[str], label: int) -> Question:
    """Return the question which of a task's labels a text has."""
    names = [label_text(name) for name in labels]
    text = text if pair is None else f"{text}\n{pair}"
    return Question(text, f"\nOptions: {', '.join(names)}\n{ANSWER}", names[label])


def generation_question(
    prompt: str,
    completion: str,
    rationale: str | None,
    earlier: Sequence[Message] = (),
    all_turns: bool = False,
) -> Question:
    """Return the question of a generation row, whose answer begins with the rationale where there is one."""
    answer = completion if rationale is None else f"{rationale}\n{ANSWER} {completion}"
    return Question(prompt.rstrip(), "", answer, earlier, all_turns)


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
