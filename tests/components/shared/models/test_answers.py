"""Losses, margins and sampled answers against one position, one row at a time, in plain sums."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gradsift.components.shared.models import answers as answers_module
from gradsift.components.shared.models.answers import Answers
from gradsift.components.shared.models.labels import NO_ANSWER


def some_answers(seed: int, lengths: list[int], classes: int = 5) -> Answers:
    """Rows of so many answer positions, the first ones empty; class 0 is never possible."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths))
    logits = 3 * torch.randn(*shape, classes, generator=generator, dtype=torch.float64)
    logits[..., 0] = -torch.inf
    label = torch.randint(1, classes, shape, generator=generator)
    for row, length in enumerate(lengths):
        label[row, : shape[1] - length] = NO_ANSWER
    return Answers(logits, label)


def position_losses(answers: Answers) -> list[list[float]]:
    """The cross-entropy of every answer position, row by row."""
    logs = answers.logits.log_softmax(2)
    return [
        [-float(logs[row, place, label]) for place, label in enumerate(labels.tolist()) if label != NO_ANSWER]
        for row, labels in enumerate(answers.label)
    ]


LENGTHS = st.lists(st.integers(1, 4), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.integers(0, 2**32), LENGTHS)
def test_a_loss_is_the_mean_over_positions_and_a_margin_that_of_the_whole_answer(
    seed: int, lengths: list[int]
) -> None:
    answers = some_answers(seed, lengths)
    losses, margins = answers.losses().tolist(), answers.margins().tolist()
    for row, each in enumerate(position_losses(answers)):
        assert losses[row] == pytest.approx(sum(each) / len(each))
        p = math.exp(-sum(each))
        assert margins[row] == pytest.approx(math.log(p / (1 - p)), rel=1e-5, abs=1e-5)
        assert losses[row] * lengths[row] == pytest.approx(math.log1p(math.exp(-margins[row])), rel=1e-5)


def test_the_gradient_of_a_margin_is_that_of_the_summed_loss_over_minus_one_minus_p() -> None:
    answers = some_answers(0, [1, 2, 3, 1])
    logits = answers.logits.requires_grad_(True)
    [of_loss] = torch.autograd.grad((answers.losses() * answers.positions).sum(), logits)
    [of_margin] = torch.autograd.grad(answers.margins().double().sum(), logits)
    wrong = torch.sigmoid(-answers.margins().double())[:, None, None]
    assert torch.allclose(of_margin[..., 1:], (-of_loss / wrong)[..., 1:], rtol=1e-4)


def test_margins_are_finite_and_exact_for_very_confident_rows() -> None:
    logits = torch.tensor([[90.0, -90.0, -torch.inf], [-500.0, 500.0, -torch.inf], [0.0, 0.0, -torch.inf]])
    single = Answers(logits.unsqueeze(1), torch.zeros(3, 1, dtype=torch.long))
    assert single.margins().tolist() == [180.0, -1000.0, 0.0]
    double = Answers(logits.unsqueeze(1).expand(-1, 2, -1), torch.zeros(3, 2, dtype=torch.long))
    assert double.margins().tolist() == pytest.approx([180.0 - math.log(2), -2000.0, -math.log(3)])
    certain = Answers(torch.tensor([[[5000.0, 0.0], [5000.0, 0.0]]]), torch.zeros(1, 2, dtype=torch.long))
    assert 600 < certain.margins().item() < math.inf


@pytest.mark.parametrize("at_once", [1, 6 * 7, 2**24])
def test_sampled_answers_follow_the_probabilities_and_skip_impossible_ones(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_module, "SCORE_BATCH", at_once)
    p = torch.tensor([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    draws = ((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000).view(500, 2)
    label = torch.ones(500, 2, dtype=torch.long)
    picked = Answers(p.log().expand(500, 2, 6), label).sample(draws)
    assert torch.bincount(picked.flatten(), minlength=6).tolist() == [0, 200, 0, 500, 300, 0]
    ends = torch.tensor([[0.0, 1 - 2**-53]], dtype=torch.float64)
    assert Answers(p.log().expand(1, 2, 6), label[:1]).sample(ends).tolist() == [[1, 4]]
    label[:, 0] = NO_ANSWER
    assert (Answers(p.log().expand(500, 2, 6), label).sample(draws)[:, 0] == NO_ANSWER).all()


def test_probe_losses_have_the_gauss_newton_matrix_of_the_mean_loss() -> None:
    """The matrix is that of the scores, (1/T) (diag(p_t) - p_t p_t') at each position t, in expectation."""
    length, classes, draws = 3, 4, 40_000
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(1, length, classes, generator=generator, dtype=torch.float64)
    logits = one.expand(draws, -1, -1).clone().requires_grad_(True)
    answers = Answers(logits, torch.zeros(draws, length, dtype=torch.long))
    numbers = torch.rand(draws, length, generator=generator, dtype=torch.float64)
    sampled = answers.detached().sample(numbers)
    [probe] = torch.autograd.grad(answers.probe_losses(sampled).sum(), logits)
    found = probe.flatten(1).T @ probe.flatten(1) / draws
    p = functional.softmax(one[0], dim=1)
    exact = torch.block_diag(*(torch.diag(each) - torch.outer(each, each) for each in p)) / length
    assert torch.linalg.norm(found - exact) < 0.03 * torch.linalg.norm(exact)


def test_the_least_likely_answer_is_possible() -> None:
    answers = some_answers(0, [1, 3])
    chosen = answers.least_likely()
    assert ((chosen == NO_ANSWER) == (answers.label == NO_ANSWER)).all()
    rows, places = torch.nonzero(answers.is_answer, as_tuple=True)
    scores = answers.logits[rows, places]
    assert torch.equal(scores.gather(1, chosen[rows, places, None])[:, 0], scores[:, 1:].amin(1))
