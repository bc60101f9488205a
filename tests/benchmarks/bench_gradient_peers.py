"""Speed and accuracy of what other libraries do, beside gradsift, on the same real sentences in the same run.

The libraries are not among the development dependencies: `make bench-gradients` installs them (see
`peers.txt`), and runs this file by its name, which pytest does not collect by itself.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from tests.benchmarks.gradient_peers import PEERS, PeerResult
from tests.benchmarks.gradient_workloads import (
    DIMENSION,
    PLAIN,
    Cost,
    accuracy,
    costs,
    loss_gradients,
    make_batches,
    make_encoder,
    plain,
)
from tests.benchmarks.peer_model import Batch, exact_inner_products, trainable

WORKLOAD, ROWS, ROUNDS = "minilm_frozen_embeddings", 64, 3
NOT_PROJECTED = {"loop_of_backward", "vmap_grad"}
DENSE = {"trak", "dattri_trak", "bergson_global"}
"""These multiply the whole gradient with a dense matrix: a minute a pass, so that one has to do."""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def gradsift(model: EncoderClassifier, batches: list[Batch], dimension: int, seed: int) -> PeerResult:
    """What the product stores, one loss gradient an example."""
    parameters = list(trainable(model))
    keywords = [batch.keywords() for batch in batches]
    return PeerResult(loss_gradients(model, keywords, dimension, seed), parameters)


@pytest.mark.parametrize("name", ["gradsift", *PEERS])
def test_speed_and_accuracy(benchmark: Any, name: str) -> None:
    method, dimension = PEERS.get(name, (gradsift, DIMENSION))
    inputs = make_batches(make_encoder(WORKLOAD), ROWS)
    batches = [Batch.of(each) for each in inputs]
    quick = name not in DENSE
    models = [make_encoder(WORKLOAD) for _ in range(ROUNDS + 1 if quick else 1)]
    results: list[PeerResult] = []

    def work() -> None:
        results.append(method(models[len(results)], batches, dimension, len(results)))

    def measure() -> dict[str, Cost]:
        return costs(plain(make_encoder(WORKLOAD), inputs), {name: work}, len(models) - quick, warm_up=quick)

    found = benchmark.pedantic(measure, rounds=1)
    row: dict[str, Any] = {"workload": WORKLOAD, "threads": 1, "method": name, **found[name].figures(ROWS)}
    if name not in NOT_PROJECTED:
        exact = exact_inner_products(make_encoder(WORKLOAD), batches, results[0].parameters)
        numbers = results[0].features.shape[1]
        ratio = accuracy(exact, [result.features for result in results], numbers)
        row |= {"numbers": numbers, "rms_error": ratio / numbers**0.5, "error_over_theory": ratio}
    yardstick = {"workload": WORKLOAD, "threads": 1, "method": PLAIN, **found[PLAIN].figures(ROWS)}
    benchmark.extra_info["rows"] = [yardstick, row] if name == "gradsift" else [row]
