"""What a model says of right answers: the scores at each row's answer positions, and what is read off them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from gradsift.components.shared.models.labels import NO_ANSWER
from gradsift.components.shared.models.recomputation import recomputed

SCORE_BATCH = 2**24
"""Scores that something is computed from at a time."""


@dataclass(frozen=True)
class Head:
    """Computes the scores of some positions, so that they need not be kept.

    Attributes:
        scores: maps hidden states [n, c, h] to scores [n, c, V], float32.
        classes: V.
    """

    scores: Callable[[Tensor], Tensor]
    classes: int


@dataclass(frozen=True)
class Answers:
    """Scores of n rows at C answer positions, over V classes or tokens.

    An encoder classifier has one position per row. A language model has one for every token of the completion, its
    end included; shorter completions are padded with positions that hold no answer, which also stand between the
    answers of a conversation.

    Attributes:
        states: scores [n, C, V], float32; minus infinity where a class is not the task's. With a head, the hidden
            states [n, C, h] that it computes scores from, a part at a time and again in the backward pass.
        label: right class or token of each position [n, C], `NO_ANSWER` where there is none.
        hidden: mean of the last hidden states over each row's input tokens [n, h], where it was asked for.
        head: computes the scores, where they are not kept.
    """

    states: Tensor
    label: Tensor
    hidden: Tensor | None = None
    head: Head | None = None

    @property
    def logits(self) -> Tensor:
        """All scores at once, [n, C, V]."""
        return self.states if self.head is None else self.head.scores(self.states)

    @property
    def is_answer(self) -> Tensor:
        """Which positions hold an answer, [n, C]."""
        return self.label != NO_ANSWER

    @property
    def positions(self) -> Tensor:
        """T, the number of answer positions of each row, [n]."""
        return self.is_answer.sum(1)

    def losses(self) -> Tensor:
        """Return each row's loss [n]: the mean cross-entropy over its answer positions, in nats."""
        return self._at_positions(_cross_entropy, self.label).sum(1) / self.positions

    def probe_losses(self, label: Tensor) -> Tensor:
        """Return each row's loss [n] under sampled labels [n, C], scaled for the Gauss-Newton matrix.

        It is the sum of the cross-entropy over positions, divided by the square root of their number T. With labels
        drawn by `sample`, positions are independent and each has a gradient of mean zero: the outer product of this
        loss's gradient has the expectation (1/T) sum_t J_t' (diag(p_t) - p_t p_t') J_t, the Gauss-Newton matrix of
        the mean loss.
        """
        return self._at_positions(_cross_entropy, label).sum(1) / self.positions.sqrt()

    def margins(self) -> Tensor:
        """Return log P/(1-P) of each row's whole answer, [n], P being the product over its positions.

        At one position it is the right score minus the logsumexp of all others, which no probability near 1 can
        spoil. The row's loss is softplus of minus the margin over the number of positions.
        """
        margins = self._at_positions(_margins, self.label).masked_fill(~self.is_answer, 0.0)
        surprise = functional.softplus(-margins.double()).masked_fill(~self.is_answer, 0.0).sum(1)
        improbability = -torch.expm1(-surprise.clamp(min=torch.finfo(torch.float64).tiny))
        whole = -(surprise + improbability.log())
        return torch.where(self.positions == 1, margins.sum(1), whole.float())

    def right(self) -> Tensor:
        """Return whether the right answer has the highest score at every answer position, [n].

        For a language model it says whether greedy decoding would give the completion.
        """
        hits = self.logits.argmax(2) == self.label
        return (hits | ~self.is_answer).all(1)

    def hits(self) -> Tensor:
        """Return the share of a row's answer positions at which the right answer has the highest score, [n]."""
        return (self.logits.argmax(2) == self.label).sum(1) / self.positions

    def sample(self, draws: Tensor) -> Tensor:
        """Return the labels [n, C] that uniform numbers in [0, 1) pick from the distribution of each position.

        Args:
            draws: the numbers, [n, C] float64.
        """
        return self._at_positions(_sample, self.label, draws)

    def least_likely(self) -> Tensor:
        """Return the possible answer with the lowest score at each position [n, C], as labels."""
        lowest = self.detached()._at_positions(lambda scores: scores.nan_to_num(neginf=torch.inf).argmin(2))
        return lowest.masked_fill(~self.is_answer, NO_ANSWER)

    def detached(self) -> "Answers":
        """Return the same numbers, cut off from the graph that made them."""
        hidden = None if self.hidden is None else self.hidden.detach()
        head = self.head
        if head is not None:
            head = replace(head, scores=torch.no_grad()(head.scores))
        return Answers(self.states.detach(), self.label, hidden, head)

    def _at_positions(self, compute: Callable[..., Tensor], *given: Tensor) -> Tensor:
        """Return what is computed at every position [n, C], some of them at a time.

        Args:
            compute: called with the scores [n, c, V] and with these positions of `given`.
            given: tensors [n, C].
        """
        head = self.head
        rows, _, classes = self.states.shape
        if head is not None:
            classes = head.classes
            compute = partial(recomputed, _of_states, head, compute)
        at_once = max(1, SCORE_BATCH // (rows * classes))
        parts = zip(*(each.split(at_once, 1) for each in (self.states, *given)), strict=True)
        return torch.cat([compute(*part) for part in parts], 1)


def _of_states(head: Head, compute: Callable[..., Tensor], states: Tensor, *given: Tensor) -> Tensor:
    """Return what is computed of the scores that a head computes from states."""
    return compute(head.scores(states), *given)


def _cross_entropy(scores: Tensor, label: Tensor) -> Tensor:
    """Return the cross-entropy of positions [n, c], 0 where there is no answer."""
    losses = functional.cross_entropy(
        scores.flatten(0, 1), label.flatten(), reduction="none", ignore_index=NO_ANSWER
    )
    return losses.view_as(label)


def _margins(scores: Tensor, label: Tensor) -> Tensor:
    """Return the margins of positions [n, c], anything where there is no answer."""
    right = label.clamp(min=0).unsqueeze(2)
    others = scores.scatter(2, right, -torch.inf).logsumexp(2)
    return scores.gather(2, right).squeeze(2) - others


def _sample(scores: Tensor, label: Tensor, draws: Tensor) -> Tensor:
    """Return the labels [n, c] that numbers in [0, 1) pick where there is an answer, else `NO_ANSWER`."""
    is_answer = label != NO_ANSWER
    sampled = torch.full_like(label, NO_ANSWER)
    sampled[is_answer] = _drawn(scores[is_answer], draws[is_answer])
    return sampled


def _drawn(logits: Tensor, draws: Tensor) -> Tensor:
    """Return the classes [N] that numbers in [0, 1) pick from distributions [N, V], impossible ones never."""
    cumulative = functional.softmax(logits.double(), dim=-1).cumsum(-1)
    last = logits.shape[-1] - 1 - torch.isfinite(logits).flip(-1).int().argmax(-1)
    return torch.minimum((cumulative <= draws.unsqueeze(-1)).sum(-1), last)
