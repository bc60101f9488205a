"""What a model says of right answers: the scores at each row's answer positions, and what is read off them."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from gradsift.components.shared.models.labels import NO_ANSWER

SCORE_BATCH = 2**24
"""Scores that are copied at a time, where something is computed from them."""


@dataclass(frozen=True)
class Answers:
    """Scores of n rows at C answer positions, over V classes or tokens.

    An encoder classifier has one position per row. A language model has one for every token of the completion, its
    end included; shorter completions are padded with positions that hold no answer, which also stand between the
    answers of a conversation.

    Attributes:
        logits: scores [n, C, V], float32; minus infinity where a class is not the task's.
        label: right class or token of each position [n, C], `NO_ANSWER` where there is none.
        hidden: mean of the last hidden states over each row's input tokens [n, h], where it was asked for.
    """

    logits: Tensor
    label: Tensor
    hidden: Tensor | None = None

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
        return self._cross_entropy(self.label).sum(1) / self.positions

    def probe_losses(self, label: Tensor) -> Tensor:
        """Return each row's loss [n] under sampled labels [n, C], scaled for the Gauss-Newton matrix.

        It is the sum of the cross-entropy over positions, divided by the square root of their number T. With labels
        drawn by `sample`, positions are independent and each has a gradient of mean zero: the outer product of this
        loss's gradient has the expectation (1/T) sum_t J_t' (diag(p_t) - p_t p_t') J_t, the Gauss-Newton matrix of
        the mean loss.
        """
        return self._cross_entropy(label).sum(1) / self.positions.sqrt()

    def margins(self) -> Tensor:
        """Return log P/(1-P) of each row's whole answer, [n], P being the product over its positions.

        At one position it is the right score minus the logsumexp of all others, which no probability near 1 can
        spoil. The row's loss is softplus of minus the margin over the number of positions.
        """
        right = self._right_places()
        at_once = self._positions_at_once
        parts = zip(self.logits.split(at_once, 1), right.split(at_once, 1), strict=True)
        others = torch.cat([part.scatter(2, own, -torch.inf).logsumexp(2) for part, own in parts], 1)
        margins = (self.logits.gather(2, right).squeeze(2) - others).masked_fill(~self.is_answer, 0.0)
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
        label = torch.full_like(self.label, NO_ANSWER)
        at_once = max(1, SCORE_BATCH // self.logits.shape[2])
        for row, place in zip(*(index.split(at_once) for index in self.is_answer.nonzero().T), strict=True):
            label[row, place] = _drawn(self.logits[row, place], draws[row, place])
        return label

    def least_likely(self) -> Tensor:
        """Return the possible answer with the lowest score at each position [n, C], as labels."""
        scores = self.logits.detach().nan_to_num(neginf=torch.inf)
        return scores.argmin(2).masked_fill(~self.is_answer, NO_ANSWER)

    def detached(self) -> "Answers":
        """Return the same numbers, cut off from the graph that made them."""
        hidden = None if self.hidden is None else self.hidden.detach()
        return Answers(self.logits.detach(), self.label, hidden)

    def _cross_entropy(self, label: Tensor) -> Tensor:
        """Return the cross-entropy of every position [n, C], 0 where there is no answer."""
        at_once = self._positions_at_once
        parts = [
            functional.cross_entropy(
                scores.flatten(0, 1), own.flatten(), reduction="none", ignore_index=NO_ANSWER
            ).view_as(own)
            for scores, own in zip(self.logits.split(at_once, 1), label.split(at_once, 1), strict=True)
        ]
        return torch.cat(parts, 1)

    @property
    def _positions_at_once(self) -> int:
        rows, _, classes = self.logits.shape
        return max(1, SCORE_BATCH // (rows * classes))

    def _right_places(self) -> Tensor:
        return self.label.clamp(min=0).unsqueeze(2)


def _drawn(logits: Tensor, draws: Tensor) -> Tensor:
    """Return the classes [N] that numbers in [0, 1) pick from distributions [N, V], impossible ones never."""
    cumulative = functional.softmax(logits.double(), dim=-1).cumsum(-1)
    last = logits.shape[-1] - 1 - torch.isfinite(logits).flip(-1).int().argmax(-1)
    return torch.minimum((cumulative <= draws.unsqueeze(-1)).sum(-1), last)
