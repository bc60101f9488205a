"""Kernels of whole margin gradients and of their signs, which describe the early steps of Adam.

Malladi et al. (2023) give three kernels of the gradients g and g' of two rows at the start: that of SGD, g.g'; the
asymmetric one of SignGD, g.sign(g'), for a step on the row of g'; and the symmetric one, sign(g).sign(g').
Signs are taken of whole gradients, because a projection does not keep signs.

A regression looks for the step w among the combinations of the train rows' vectors, which are their gradients or
the signs of these. It minimises sum_i log(1 + exp(-(b_i + x_i.w))) + R/2 |w|^2, where x_i is the row's gradient or,
for the symmetric kernel, its signs. This takes inner products alone. The paper solves least squares and, for the
asymmetric kernel, a system of twice the size; the losses and the ridge here are those of the rest of the report.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradsift.components.evaluation.kernel.kernel_regression import (
    fitted_weights,
    regression_answers,
    ridge_unit,
)
from gradsift.components.evaluation.kernel.linearisation import FloatArray, Step
from gradsift.components.evaluation.kernel.margin_rows import MarginRows
from gradsift.components.shared.models.task_model import Batch
from gradsift.components.shared.records.kernel_report import RIDGES, KernelName, SignKernel

MAX_NUMBERS = 2**27
"""Entries of all rows' gradients that are held at a time; a row takes a backward pass for each such part."""
FOLDS = 5
MIN_EIGENVALUE = 1e-9
"""Smallest eigenvalue that is kept of the train rows' inner products, relative to the largest."""


@dataclass(frozen=True)
class Products:
    """Inner products of the gradients g of n rows with the gradients g' of the first m, all [n, m].

    Attributes:
        plain: g.g'.
        mixed: g.sign(g').
        signs: sign(g).sign(g').
    """

    plain: FloatArray
    mixed: FloatArray
    signs: FloatArray

    def of(self, kernel: KernelName) -> tuple[FloatArray, FloatArray]:
        """Return a kernel's products of rows and train rows' vectors [n, m], and of these vectors [m, m]."""
        values = {"sgd": self.plain, "a_sign": self.mixed, "sign": self.signs}[kernel]
        vectors = self.plain if kernel == "sgd" else self.signs
        return values, vectors[: vectors.shape[1]]


@dataclass(frozen=True)
class Part:
    """A range of entries of the trained parameters, which are joined in their order.

    Attributes:
        names: the parameters that the range touches.
        numbers: the range, counted from the first entry of these parameters.
    """

    names: list[str]
    numbers: slice


def gradient_parts(step: Step, rows: int) -> list[Part]:
    """Cut the trained parameters into parts that are small enough to hold the gradients of so many rows."""
    sizes = [value.numel() for value in step.start.values()]
    ends = np.cumsum(sizes)
    starts = ends - sizes
    names = np.array(list(step.start))
    width = max(1, MAX_NUMBERS // rows)
    parts = []
    for low in range(0, int(ends[-1]), width):
        high = min(low + width, int(ends[-1]))
        own = (starts < high) & (ends > low)
        first = int(starts[own][0])
        parts.append(Part(names[own].tolist(), slice(low - first, high - first)))
    return parts


def gradient_products(
    step: Step, rows: Sequence[Batch], train: int, count: Callable[[int], None]
) -> Products:
    """Return the inner products of rows' margin gradients at the start, part by part of the parameters.

    Args:
        step: the step, of a model without hooks.
        rows: one batch of one row each, the train rows first.
        train: the number of train rows.
        count: called with the number of rows after every pass over them.
    """
    products = np.zeros((3, len(rows), train))
    for part in gradient_parts(step, len(rows)):
        size = part.numbers.stop - part.numbers.start
        gradients = torch.empty(len(rows), size, device=rows[0]["label"].device)
        for row, batch in enumerate(rows):
            gradients[row] = _gradient(step, batch, part)
        signs = gradients[:train].sign()
        products[0] += _product(gradients, gradients[:train])
        products[1] += _product(gradients, signs)
        products[2] += _product(gradients.sign_(), signs)
        count(len(rows))
    return Products(*products)


def regress(
    products: Products, margin: FloatArray, positions: FloatArray, two_labels: bool
) -> list[SignKernel]:
    """Return each kernel's answers to the validation rows, which come after the train rows.

    Args:
        products: inner products of all rows' gradients with the train rows'.
        margin: margins of all rows at the start [n].
        positions: number of tokens of each row's answer [n].
        two_labels: whether one of two classes is the answer.
    """
    train = products.plain.shape[1]
    found = []
    kernels: tuple[KernelName, ...] = ("sgd", "a_sign", "sign")
    for kernel in kernels:
        values, vectors = products.of(kernel)
        ridge = _chosen_ridge(values[:train], vectors, margin[:train], positions[:train])
        rows = MarginRows(margin, _coordinates(values, vectors), positions)
        fit, held = _rows_at(rows, np.arange(train)), _rows_at(rows, np.arange(train, len(margin)))
        weights = fitted_weights(fit, ridge * ridge_unit(fit))
        found.append(SignKernel(kernel=kernel, answered=regression_answers(held, weights, ridge, two_labels)))
    return found


def _gradient(step: Step, batch: Batch, part: Part) -> Tensor:
    """Return a part of the gradient of one row's margin at the start."""
    wanted = {name: step.start[name].clone().requires_grad_() for name in part.names}
    margin = step.answers(batch, 0.0, {**step.start, **wanted}).margins().sum()
    gradients = torch.autograd.grad(margin, list(wanted.values()), materialize_grads=True)
    return torch.cat([gradient.flatten() for gradient in gradients])[part.numbers]


def _product(one: Tensor, other: Tensor) -> FloatArray:
    product: FloatArray = (one @ other.T).cpu().double().numpy()
    return product


def _chosen_ridge(
    values: FloatArray, vectors: FloatArray, margin: FloatArray, positions: FloatArray
) -> float:
    """Return the ridge of `RIDGES` with the lowest loss in five-fold cross-validation on the train rows."""
    fold = np.random.default_rng(0).permutation(len(margin)) % FOLDS
    losses = np.zeros(len(RIDGES))
    for number in range(min(FOLDS, len(margin)) if len(margin) > 1 else 0):
        own, out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        rows = MarginRows(margin, _coordinates(values[:, own], vectors[np.ix_(own, own)]), positions)
        fit, left = _rows_at(rows, own), _rows_at(rows, out)
        unit = ridge_unit(fit)
        losses += [
            len(out) * regression_answers(left, fitted_weights(fit, ridge * unit), ridge, False).loss
            for ridge in RIDGES
        ]
    return RIDGES[int(losses.argmin())]


def _coordinates(values: FloatArray, vectors: FloatArray) -> FloatArray:
    """Return rows' coordinates [n, r] in an orthonormal basis of the span of some vectors.

    Args:
        values: inner products of the rows with the vectors [n, m].
        vectors: inner products of the vectors [m, m].
    """
    eigenvalues, directions = np.linalg.eigh(vectors)
    kept = eigenvalues > MIN_EIGENVALUE * eigenvalues[-1]
    coordinates: FloatArray = values @ (directions[:, kept] / np.sqrt(eigenvalues[kept]))
    return coordinates


def _rows_at(rows: MarginRows, places: npt.NDArray[np.intp]) -> MarginRows:
    return MarginRows(rows.margin[places], rows.gradient[places], rows.positions[places])
