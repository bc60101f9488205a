"""Settings that no extraction could use are refused in one sentence."""

import re
from typing import Any

import pytest

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.parameters.extraction import GradientExtractionConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimension": 0}, "Parameter dimension is 0: expected 1 or more."),
        ({"blocks": 0}, "Parameter blocks is 0: expected 1 or more."),
        ({"probes": 0}, "Parameter probes is 0: expected 1 or more."),
        ({"tokens_per_batch": 0}, "Parameter tokens_per_batch is 0: expected 1 or more."),
        ({"shard_rows": -1}, "Parameter shard_rows is -1: expected 1 or more."),
        ({"dimension": 10}, "Parameter dimension is 10: expected a multiple of the 4 blocks."),
        (
            {"projection_width": 399},
            "Parameter projection_width is 399: expected at least dimension (400).",
        ),
        ({"precision": "fp16"}, "Parameter precision is 'fp16': expected one of auto, bf16, float32."),
        ({"dtype": "int8"}, "Parameter dtype is 'int8': expected one of float16, float32."),
        ({"parameters": "all"}, "Parameter parameters is 'all': expected one of shared, trained."),
        ({"processes": -1}, "Parameter processes is -1: expected 0 or more."),
        ({"seed": -1}, "Parameter seed is -1: expected 0 or more."),
    ],
)
def test_a_useless_setting_is_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        GradientExtractionConfig(**settings)


def test_the_smallest_settings_are_allowed() -> None:
    GradientExtractionConfig(
        dimension=1, blocks=1, probes=1, projection_width=1, tokens_per_batch=1, shard_rows=1
    )
