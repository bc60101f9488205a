"""Rows become tokens: what is read, what is written, and what is cut where a row is too long."""

from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_language_models import make_tokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from gradsift.components.shared.data.prepared_data import Message
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.labels import NO_ANSWER, last_answer
from gradsift.components.shared.models.prompt_format import (
    PromptFormat,
    Question,
    Tokens,
    classification_question,
    final_answer,
    generation_question,
    questions,
)

TOKENIZER = make_tokenizer()
CHATTING = make_tokenizer(chat=True)
PLAIN = PromptFormat(TOKENIZER, encoder_decoder=False, chat=False, max_length=64)
CHAT = PromptFormat(CHATTING, encoder_decoder=False, chat=True, max_length=64)
APART = PromptFormat(TOKENIZER, encoder_decoder=True, chat=False, max_length=64)
EVERY = pytest.mark.parametrize("form", [PLAIN, CHAT, APART])
TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=12
)
SUM = Question("one and two make", "", "three")
EARLIER: list[Message] = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "one ?"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three ?"},
    {"role": "assistant", "content": "four and five"},
]
CONVERSATION = generation_question("six ?", "seven", None, EARLIER, all_turns=True)


def tokens_of(form: PromptFormat, question: Question) -> Tokens | None:
    [tokens] = form.tokens([question])
    return tokens


def texts(tokens: Tokens | None) -> tuple[str, str]:
    assert tokens is not None
    return TOKENIZER.decode(tokens.prompt), TOKENIZER.decode(last_answer(tokens.answer))


def test_the_plain_form_puts_a_space_before_the_answer_and_an_end_behind_it() -> None:
    assert texts(tokens_of(PLAIN, SUM)) == ("one and two make", " three</s>")


def test_a_chat_template_frames_both_and_ends_the_answer_by_itself() -> None:
    read = "<|start|>user\none and two make<|turn|>\n<|start|>assistant\n"
    assert texts(tokens_of(CHAT, SUM)) == (read, "three<|turn|>")


def test_an_encoder_decoder_reads_the_prompt_and_writes_the_answer() -> None:
    assert texts(tokens_of(APART, SUM)) == ("one and two make", "three</s>")


def test_a_beginning_of_sequence_comes_first_where_the_tokenizer_puts_one() -> None:
    tokenizer = make_tokenizer()
    start = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[start])
    tokens = tokens_of(replace(PLAIN, tokenizer=tokenizer), SUM)
    assert texts(tokens) == ("<s>one and two make", " three</s>")


def test_an_answer_is_tokenised_as_it_stands_behind_its_prompt() -> None:
    """A tokenizer that puts a space before every text would double the one before the answer."""
    model = Tokenizer(models.BPE())
    model.normalizer = normalizers.Prepend(" ")
    model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["</s>"], show_progress=False)
    model.train_from_iterator(["one and two make three", "three and two"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="</s>")
    tokens = tokens_of(replace(PLAIN, tokenizer=tokenizer), SUM)
    assert tokens is not None
    assert tokens.prompt == tokenizer("one and two make")["input_ids"]
    assert tokens.prompt + tokens.answer == tokenizer("one and two make three</s>")["input_ids"]
    assert (
        tokenizer("one and two make three")["input_ids"] != tokens.prompt + tokenizer(" three")["input_ids"]
    )


@EVERY
@given(text=TEXT, answer=TEXT)
def test_prompt_and_answer_make_the_whole_text(form: PromptFormat, text: str, answer: str) -> None:
    tokens = tokens_of(replace(form, max_length=1000), Question(text, "", answer))
    assert tokens is not None
    read, written = (form.tokenizer.decode(ids) for ids in tokens)
    space = " " if form is PLAIN else ""
    assert text in read
    assert written.removesuffix("</s>").removesuffix("<|turn|>") == space + answer


@EVERY
@given(length=st.integers(1, 40), after=st.sampled_from(["", "\nOptions: a, b\nAnswer:"]))
def test_a_long_prompt_loses_as_little_of_its_beginning_as_it_must(
    form: PromptFormat, length: int, after: str
) -> None:
    text = " ".join(f"word{number} é" for number in range(40))
    question = Question(text, after, "yes and no")
    tight = replace(form, max_length=length)
    tokens = tokens_of(tight, question)
    assert (tokens is not None) == tight.has_room(question)
    if tokens is None:
        return
    sizes = [len(part) for part in tokens]
    taken = max(sizes) if form.encoder_decoder else sum(sizes)
    assert taken <= length < taken + 4
    read, written = texts(tokens)
    assert "yes and no" in written
    read = read.removeprefix("<|start|>user\n").removesuffix("<|turn|>\n<|start|>assistant\n")
    assert read.endswith(after)
    assert (text + after).endswith(read)
    assert (tight.length(question) <= length) == (read == text + after)


def learned(form: PromptFormat, question: Question) -> list[str]:
    """The texts between positions without an answer; the last answer follows the prompt."""
    tokens = tokens_of(form, question)
    assert tokens is not None
    whole = tokens.prompt + last_answer(tokens.answer)
    places = [*range(len(whole) - len(tokens.answer), len(whole))]
    assert all(label in (NO_ANSWER, whole[at]) for at, label in zip(places, tokens.answer, strict=True))
    runs = groupby(tokens.answer, key=lambda label: label == NO_ANSWER)
    return [TOKENIZER.decode(list(run)) for masked, run in runs if not masked]


@pytest.mark.parametrize(
    ("form", "answers"),
    [
        (CHAT, ["two<|turn|>", "four and five<|turn|>", "seven<|turn|>"]),
        (PLAIN, [" two", " four and five", " seven</s>"]),
        (APART, ["seven</s>"]),
    ],
)
def test_all_answers_of_a_conversation_are_learned_or_the_last(
    form: PromptFormat, answers: list[str]
) -> None:
    form = replace(form, max_length=200)
    assert learned(form, CONVERSATION) == answers
    assert learned(form, CONVERSATION._replace(all_turns=False)) == answers[-1:]
    read, _ = texts(tokens_of(form, CONVERSATION._replace(all_turns=False)))
    assert texts(tokens_of(form, CONVERSATION))[0] == read
    if not form.chat:
        assert read == (
            "System: be brief\nUser: one ?\nAssistant: two\nUser: three ?\nAssistant: four and five\n"
            "User: six ?\nAssistant:"
        )


@EVERY
def test_a_conversation_without_earlier_messages_is_a_prompt_and_a_completion(form: PromptFormat) -> None:
    assert tokens_of(form, generation_question("one ?", "two", None, [], all_turns=True)) == tokens_of(
        form, generation_question("one ?", "two", None)
    )


@EVERY
@given(length=st.integers(1, 120))
def test_a_long_conversation_loses_its_oldest_turns_and_then_the_beginning_of_its_text(
    form: PromptFormat, length: int
) -> None:
    question = CONVERSATION._replace(text="count on from six , seven and eight ?", answer="nine")
    tight = replace(form, max_length=length)
    tokens = tokens_of(tight, question)
    assert (tokens is not None) == tight.has_room(question)
    if tokens is None:
        return
    assert len(tokens.prompt) + (0 if form is APART else len(last_answer(tokens.answer))) <= length
    read, _ = texts(tokens)
    shorter = [question, *question.shorter]
    assert [len(each.earlier) for each in shorter] == [5, 3, 1]
    uncut = [texts(tokens_of(replace(form, max_length=500), each))[0] for each in shorter]
    if length >= replace(form, max_length=500).length(shorter[-1]):
        assert read == next(
            text for text, each in zip(uncut, shorter, strict=True) if tight.length(each) <= length
        )
    else:
        beginning, _, end = uncut[-1].partition(question.text)
        assert read.startswith(beginning)
        assert read.endswith(end)
        assert question.text.endswith(read.removeprefix(beginning).removesuffix(end))


@EVERY
def test_questions_are_tokenised_together_as_each_is_alone(form: PromptFormat) -> None:
    asked = [
        SUM,
        Question("x" * 200, " y", "two"),
        Question("x", "", "one " * 90),
        Question("a\nb", "?", "c"),
        CONVERSATION,
    ]
    alone = [tokens_of(form, question) for question in asked]
    assert form.tokens(asked) == alone
    assert [tokens is None for tokens in alone] == [False, False, True, False, False]


@EVERY
def test_an_answer_that_leaves_no_room_has_no_tokens(form: PromptFormat) -> None:
    assert tokens_of(replace(form, max_length=6), Question("x", "", "one two three four five")) is None


def test_a_classification_row_asks_for_a_label_by_its_words() -> None:
    columns = {"text": ["good", "bad"], "text_pair": [None, "worse"], "label": [1, 0]}
    assert list(questions(columns, ["negative", "very_positive"])) == [
        Question("good", "\nOptions: negative, very positive\nAnswer:", "very positive"),
        Question("bad\nworse", "\nOptions: negative, very positive\nAnswer:", "negative"),
    ]
    assert classification_question("good", None, ["a", "b"], 0).answer == "a"


def test_a_rationale_comes_before_the_completion_and_can_be_told_apart() -> None:
    columns: dict[str, Any] = {
        "prompt": ["1+1= ", "2+2="],
        "completion": ["2", "4"],
        "rationale": [None, "2 and 2"],
    }
    plain, reasoned = questions(columns, [])
    assert plain == Question("1+1=", "", "2")
    assert reasoned == Question("2+2=", "", "2 and 2\nAnswer: 4")
    assert final_answer(plain.answer) == "2"
    assert final_answer(reasoned.answer) == "4"
    assert generation_question("a", "b", None) == Question("a", "", "b")


def test_the_template_is_taken_where_there_is_one_unless_plain_is_asked_for() -> None:
    def chat(tokenizer: Any, form: Any, encoder_decoder: bool = False) -> bool:
        return PromptFormat.of(tokenizer, encoder_decoder, form, 64, "m").chat

    assert chat(CHATTING, "auto")
    assert chat(CHATTING, "chat")
    assert not chat(CHATTING, "plain")
    assert not chat(TOKENIZER, "auto")
    assert not chat(CHATTING, "auto", encoder_decoder=True)


@pytest.mark.parametrize(
    ("encoder_decoder", "reason"), [(False, "it has none"), (True, "sequence-to-sequence")]
)
def test_a_template_that_is_not_there_is_said(encoder_decoder: bool, reason: str) -> None:
    with pytest.raises(
        InputError, match=f"prompt_form is 'chat': expected 'plain'.* place of 'm' .*{reason}"
    ):
        PromptFormat.of(TOKENIZER, encoder_decoder, "chat", 64, "m")


def test_a_tokenizer_without_an_end_of_sequence_is_said() -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="tokenizer of the base model 'm' has no end-of-sequence token"):
        PromptFormat.of(tokenizer, False, "auto", 64, "m")


def test_a_template_that_changes_what_came_before_is_said() -> None:
    tokenizer = make_tokenizer(chat=True)
    tokenizer.chat_template = "{{ messages | length }}{{ messages[-1]['content'] }}"
    with pytest.raises(InputError, match="expected prompt_form 'plain' for this base model"):
        tokens_of(replace(CHAT, tokenizer=tokenizer), SUM)
