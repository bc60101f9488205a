"""What the report says of the first-order assumption: the verdict, what to do then, and the figures behind it."""

from typing import Any

from gradsift.components.evaluation.report.charts import axis_over
from gradsift.components.evaluation.report.report_words import correlation
from gradsift.components.shared.parameters.training import Start
from gradsift.components.shared.records.kernel_report import (
    FRACTIONS,
    HOLDS,
    Features,
    FirstOrder,
    KernelName,
    KernelRegression,
    KernelReport,
    SignKernels,
    Tangent,
)

ADVICE: dict[FirstOrder, str] = {
    "holds": "Fine-tuning moved the margins as their derivatives predict: nothing here speaks against the values "
    "of the estimates.",
    "holds in direction": "Fine-tuning moved the margins in the direction that their derivatives predict, but by "
    "another amount: the ranks of the estimates may be trusted, their values only once calibrated on fine-tuning "
    "runs.",
    "fails": "Fine-tuning did not move the margins as their derivatives predict: shorten it, start it at the "
    "meta-trained weights, or rely on calibration runs.",
}
KERNELS: dict[KernelName, str] = {
    "sgd": "Kernel of SGD",
    "a_sign": "Asymmetric kernel of SignGD",
    "sign": "Symmetric kernel of SignGD",
}
POINTS: dict[Start, str] = {"base": "the pretrained weights", "meta": "the meta-trained weights"}


def kernel_of(report: KernelReport | None) -> dict[str, Any]:
    """Return the template's values; without a report its part is left out."""
    if report is None:
        return {"kernel": None}
    first, *others = report.tangents
    axis = axis_over((r2 for tangent in report.tangents for r2 in tangent.r2), with_zero=True)
    return {
        "kernel": report,
        "first_order": first,
        "first_order_words": [
            ADVICE[first.verdict],
            *map(_other_point, others),
            _features_words(report.features),
        ],
        "first_order_tone": {"holds": "good", "holds in direction": "", "fails": "bad"}[first.verdict],
        "first_order_threshold": HOLDS,
        "points": POINTS,
        "r2_axis": axis,
        "r2_along": [
            (share, [tangent.r2[place] for tangent in report.tangents])
            for place, share in enumerate(FRACTIONS)
        ],
        **_regression_of(report.regression),
        "sign_kernels": report.sign_kernels and _sign_kernels_of(report.sign_kernels),
    }


def agreement_words(tangent: Tangent) -> str:
    """Write how well derivatives describe the whole step: `R² 0.68, correlation 0.93`."""
    words = f"R² {correlation(tangent.r2[-1])}"
    return (
        words if tangent.correlation is None else f"{words}, correlation {correlation(tangent.correlation)}"
    )


def _regression_of(regression: KernelRegression | None) -> dict[str, Any]:
    if regression is None:
        return {"regression": None}
    origin = "from the gradient store" if regression.stored else "computed for this report"
    return {
        "regression": regression,
        "ridge_axis": axis_over((each.loss for each in regression.curve), with_zero=True),
        "regression_words": f"Their gradients are {origin}.",
    }


def _sign_kernels_of(signs: SignKernels) -> dict[str, Any]:
    return {
        "record": signs,
        "kernels": [(KERNELS[each.kernel], each.answered) for each in signs.kernels],
    }


def _features_words(features: Features) -> str:
    stayed = "stayed" if features.fixed else "did not stay"
    return (
        f"The features {stayed} fixed: the rows' kernels before and after have a cosine of "
        f"{correlation(features.cosine)}, and the trace grew by a factor of {correlation(features.growth)}."
    )


def _other_point(tangent: Tangent) -> str:
    return (
        f"By derivatives at {POINTS[tangent.point]}, which the estimates use, the assumption {tangent.verdict} "
        f"({agreement_words(tangent)})."
    )
