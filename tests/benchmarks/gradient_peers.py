"""What other libraries do instead of gradsift's gradient features: one function a method, all called alike.

Each takes an `EncoderClassifier` in eval mode and batches, and returns one row of numbers an example, such that
inner products of rows estimate inner products of the examples' loss gradients over the parameters it names. The
libraries are imported where they are used, so that this module can be imported without them.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.utils.data import DataLoader

from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from tests.benchmarks.peer_model import (
    Batch,
    additive_attention_mask,
    linear_layers,
    losses,
    only_trainable,
    row_loss,
    trainable,
)


@dataclass(frozen=True)
class PeerResult:
    """What a method made of the examples.

    Attributes:
        features: [n, features], in the order of the batches.
        parameters: names of the parameters whose gradients they stand for.
    """

    features: Tensor
    parameters: list[str]


Peer = Callable[[EncoderClassifier, list[Batch], int, int], PeerResult]


def loop_of_backward(model: EncoderClassifier, batches: list[Batch], dimension: int, seed: int) -> PeerResult:
    """One backward pass an example, nothing projected: the feature is the gradient's norm, [n, 1].

    Covers all trainable parameters; `dimension` and `seed` are not used.
    """
    parameters = trainable(model)
    norms = []
    for batch in batches:
        for row in range(len(batch)):
            loss = losses(model, batch.part(row, row + 1)).sum()
            gradients = torch.autograd.grad(loss, list(parameters.values()))
            norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm())
    return PeerResult(torch.stack(norms).unsqueeze(1), list(parameters))


def vmap_grad(model: EncoderClassifier, batches: list[Batch], dimension: int, seed: int) -> PeerResult:
    """`torch.func`'s gradients of 16 examples at a time, nothing projected: the feature is the norm, [n, 1].

    Covers all trainable parameters; `dimension` and `seed` are not used.
    """
    parameters = {name: parameter.detach() for name, parameter in trainable(model).items()}

    def loss(parameters: dict[str, Tensor], tensors: list[Tensor], names: list[str]) -> Tensor:
        return row_loss(model, parameters, names, tensors)

    norms = []
    with additive_attention_mask(model):
        for batch in batches:
            for start in range(0, len(batch), 16):
                part = batch.part(start, start + 16)
                gradients = vmap(grad(loss), (None, 0, None))(parameters, part.tensors(), list(part.inputs))
                norms.append(
                    torch.stack([value.flatten(1).norm(dim=1) for value in gradients.values()]).norm(dim=0)
                )
    return PeerResult(torch.cat(norms).unsqueeze(1), list(parameters))


def trak(model: EncoderClassifier, batches: list[Batch], dimension: int, seed: int) -> PeerResult:
    """TRAK (`traker`): `TRAKer.featurize`, a normal matrix of `dimension` columns over the whole gradient.

    Covers all trainable parameters. On CPU TRAK takes its `BasicProjector`, which makes the matrix again, 100
    columns at a time, for every batch: large batches pay less. The model output is the loss itself, which saves
    the pass for the derivative of the loss by the margin. Float32, which is several times faster here than the
    float16 that it takes by default, meant for GPUs.
    """
    from trak import TRAKer
    from trak.modelout_functions import AbstractModelOutput

    parameters = list(trainable(model))
    names = list(batches[0].inputs)

    class Loss(AbstractModelOutput):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            pass

        @staticmethod
        def get_output(model: Any, weights: dict[str, Tensor], buffers: Any, *tensors: Tensor) -> Tensor:
            return row_loss(model, weights, names, list(tensors))

        def get_out_to_loss_grad(
            self, model: Any, weights: Any, buffers: Any, tensors: list[Tensor]
        ) -> Tensor:
            return torch.ones(len(tensors[0]), 1)

    with tempfile.TemporaryDirectory() as folder, additive_attention_mask(model), torch.no_grad():
        traker = TRAKer(
            model,
            Loss(),
            train_set_size=sum(len(batch) for batch in batches),
            save_dir=folder,
            device="cpu",
            proj_dim=dimension,
            use_half_precision=False,
            projector_seed=seed,
            grad_wrt=parameters,
            logging_level=100,
        )
        traker.load_checkpoint(model.state_dict(), model_id=0)
        for batch in batches:
            traker.featurize(batch.tensors(), num_samples=len(batch))
        stored = torch.tensor(traker.saver.current_store["grads"][:])
    # TRAK divides by the root of the number of parameters, not of the number of columns.
    return PeerResult(stored * traker.normalize_factor / dimension**0.5, parameters)


def dattri_trak(model: EncoderClassifier, batches: list[Batch], dimension: int, seed: int) -> PeerResult:
    """dattri's TRAK: its gradient function and its `random_project`, a normal matrix over the whole gradient.

    Covers all trainable parameters. These are the parts of `TRAKAttributor.cache`, which does not give the features
    out, at their best: the gradient parameter by parameter, where `cache` takes it by one long vector and adds up a
    padded copy a parameter; one projector, where `cache` makes one a batch; and no pass for the probabilities.
    """
    from dattri.func.projection import random_project
    from dattri.task import AttributionTask

    names = list(batches[0].inputs)

    def loss(parameters: dict[str, Tensor], tensors: list[Tensor]) -> Tensor:
        return row_loss(model, parameters, names, tensors)

    covered = list(trainable(model))
    task = AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict())
    gradient_of = task.get_grad_loss_func(in_dims=(None, 0))
    features = []
    project = None
    with additive_attention_mask(model), torch.no_grad():
        parameters, _ = task.get_param(layer_split=True)
        for batch in batches:
            gradients = dict(zip(covered, gradient_of(parameters, batch.tensors()), strict=True))
            project = project or random_project(
                gradients, len(batch), proj_dim=dimension, proj_max_batch_size=32, proj_seed=seed
            )
            features.append(project(gradients))
    return PeerResult(torch.cat(features), covered)


def dattri_logra(model: EncoderClassifier, batches: list[Batch], dimension: int, seed: int) -> PeerResult:
    """dattri's `LoGraAttributor.cache`: `dimension` numbers a layer, its root on the input and on the output side.

    Covers weights and biases of all trainable Linear layers, and asks for no other gradients. The features are what
    is cached before the inverse Fisher matrix is applied. `torch.compile`, which dattri puts around two small
    products, is off, which is faster: it compiles for every layer again and gives up after eight.
    """
    from dattri.algorithm.logra import LoGraAttributor
    from dattri.task import AttributionTask

    def loss(model: nn.Module, keywords: dict[str, Tensor], device: str) -> Tensor:
        return model(**keywords)["loss"]

    layers = linear_layers(model)
    parameters = [
        f"{name}.{part}"
        for name, layer in layers.items()
        for part, _ in layer.named_parameters(recurse=False)
    ]
    rows: Any = batches
    loader: DataLoader[Any] = DataLoader(rows, batch_size=1, collate_fn=lambda single: single[0].keywords())
    with (
        tempfile.TemporaryDirectory() as folder,
        only_trainable(model, parameters),
        torch.compiler.set_stance("force_eager"),
    ):
        attributor = LoGraAttributor(
            AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict()),
            layer_names=list(layers),
            hessian="Identity",
            proj_dim=dimension,
            cache_dir=folder,
        )
        # The two sides of a layer take this seed and the next one.
        attributor.sparsifier_kwargs["proj_seed"] = 2 * seed
        attributor.cache(loader)
        stored = [attributor.offload_manager.retrieve_gradients(index) for index in range(len(batches))]
    return PeerResult(torch.cat([torch.cat(blocks, dim=1) for blocks in stored]), parameters)


def bergson_global(model: EncoderClassifier, batches: list[Batch], dimension: int, seed: int) -> PeerResult:
    """bergson with `projection_target="global"`: a dense sign matrix a layer, summed to `dimension` numbers.

    Covers the weights of the encoder's Linear layers, without biases as is its default.
    """
    return _bergson(model, batches, dimension, seed, "global")


def bergson_per_module(
    model: EncoderClassifier, batches: list[Batch], dimension: int, seed: int
) -> PeerResult:
    """bergson as its guide runs it: `dimension` by `dimension` numbers a layer, projected from both sides.

    Covers the weights of the encoder's Linear layers, without biases as is its default.
    """
    return _bergson(model, batches, dimension, seed, "per_module")


def _bergson(
    model: EncoderClassifier, batches: list[Batch], dimension: int, seed: int, target: str
) -> PeerResult:
    """Collect in memory, the loop being bergson's own with this model's loss in place of a language model's.

    As in bergson's own set-up, only the token embedding asks for gradients, so that no weight gradient is computed.
    The head is left out: bergson takes only layers whose inputs are [n, T, features].
    """
    from bergson import GradientProcessor, IndexConfig, InMemoryCollector

    layers = linear_layers(model.encoder)
    embedding = next(
        name
        for name, value in model.named_parameters()
        if value is model.encoder.get_input_embeddings().weight
    )
    with tempfile.TemporaryDirectory() as folder, only_trainable(model, [embedding]):
        collector = InMemoryCollector(
            model=model.encoder,
            data=range(sum(len(batch) for batch in batches)),
            cfg=IndexConfig(run_path=str(Path(folder) / "index")),
            processor=GradientProcessor(
                projection_dim=dimension, projection_target=target, projection_seed=seed
            ),
            target_modules=set(layers),
        )
        start = 0
        for batch in batches:
            with collector.with_batch(batch.inputs["attention_mask"].bool()):
                values = losses(model, batch)
                values.sum().backward()
                model.zero_grad()
            collector.process_batch(list(range(start, start + len(batch))), losses=values)
            start += len(batch)
        collector.teardown()
    parameters = [f"encoder.{name}.weight" for name in layers]
    return PeerResult(torch.cat(list(collector.gradients.values()), dim=1), parameters)


# Each method with the dimension to ask it for: its own recommendation, or 512 where it leaves the choice open.
PEERS: dict[str, tuple[Peer, int]] = {
    "loop_of_backward": (loop_of_backward, 1),
    "vmap_grad": (vmap_grad, 1),
    "trak": (trak, 512),
    "dattri_trak": (dattri_trak, 512),
    "dattri_logra": (dattri_logra, 256),
    "bergson_global": (bergson_global, 512),
    "bergson_per_module": (bergson_per_module, 16),
}
