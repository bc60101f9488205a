"""What the report says of the layers that were trained: what was tried, the choice, and its gain on test rows."""

from typing import Any

from gradsift.components.evaluation.report.charts import axis_over
from gradsift.components.evaluation.report.report_words import nats, points, points_range, signed_nats
from gradsift.components.shared.records.evaluation_results import LOSS, AllLayers, Evaluation
from gradsift.components.shared.records.fine_tuning_runs import Layers
from gradsift.components.shared.records.metric_names import metric_words
from gradsift.components.shared.records.scope_sweep import ScopeSweep

SCOPES = {
    "all": "All layers",
    "early": "Early layers",
    "middle": "Middle layers",
    "late": "Late layers",
    "embeddings": "Embeddings",
    "head": "Head",
}


def layers_of(evaluation: Evaluation, sweep: ScopeSweep | None) -> dict[str, Any]:
    """Return the template's values: what was tried with an axis for it, and the sentence on the test rows."""
    tried = [] if sweep is None else sweep.tried
    ends = [
        end for each in tried for end in (each.difference.low, each.difference.mean, each.difference.high)
    ]
    all_layers = evaluation.all_layers
    return {
        "sweep": sweep,
        "layers_axis": axis_over(ends, with_zero=True),
        "all_layers": all_layers,
        "layers_verdict": None if all_layers is None else _verdict(all_layers, evaluation.primary),
    }


def layer_words(layers: Layers) -> str:
    """Write which layers were trained and how fast."""
    return f"{SCOPES[layers.scope]}, rate {layers.learning_rate:g}"


def _verdict(found: AllLayers, metric: str) -> str:
    """Say whether training a part of the layers paid on test rows."""
    loss, share = found.difference.test[LOSS], found.difference.test[metric]
    if loss.high < 0:
        effect = "helped on the test rows"
    elif loss.low > 0:
        effect = "did not help on the test rows: all layers are better there"
    else:
        effect = "did not clearly help on the test rows"
    part = SCOPES[found.scope].lower()
    return (
        f"Training the {part} alone {effect}. Against all layers, the {metric_words(metric)} changes by "
        f"{points(share.mean)} points ({points_range(share)}), the loss by {signed_nats(loss.mean)} nats to "
        f"{nats(found.model.test[LOSS].mean + loss.mean)}."
    )
