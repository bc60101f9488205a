"""What other libraries do instead of gradsift's gradient features: one function a method, all called alike.

Each takes an `EncoderClassifier` in eval mode and batches, and returns one row of numbers an example, such that
inner products of rows estimate inner products of the examples' loss gradients over the parameters it names. The
libraries are imported where they are used, so that this module can be imported without them.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.utils.data import DataLoader

from gradsift.components.shared.models.encoder_classifier import EncoderClassifier


@dataclass(frozen=True)
class Batch:
    """Rows as the model takes them.

    Attributes:
        inputs: what the tokenizer gives, padded on the right, [n, T] each.
        tasks: task index of each row, [n].
        answers: class index of each row's right answer, [n].
    """

    inputs: dict[str, Tensor]
    tasks: Tensor
    answers: Tensor

    @classmethod
    def of(cls, batch: dict[str, Tensor]) -> "Batch":
        """Take what `EncoderClassifier.batch` returns."""
        inputs = {name: value for name, value in batch.items() if name not in ("task", "label")}
        return cls(inputs, batch["task"], batch["label"])

    def __len__(self) -> int:
        return len(self.tasks)

    def part(self, start: int, stop: int) -> "Batch":
        """Return the rows from `start` up to `stop`, without padding that none of them needs."""
        length = int(self.inputs["attention_mask"][start:stop].sum(1).max())
        inputs = {name: value[start:stop, :length] for name, value in self.inputs.items()}
        return Batch(inputs, self.tasks[start:stop], self.answers[start:stop])

    def tensors(self) -> list[Tensor]:
        """Return tasks, answers and the inputs in their order: what `row_loss` takes, for all rows."""
        return [self.tasks, self.answers, *self.inputs.values()]

    def keywords(self) -> dict[str, Tensor]:
        """Return what `EncoderClassifier.forward` takes."""
        return {"task": self.tasks, "label": self.answers, **self.inputs}


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


def exact_inner_products(
    model: EncoderClassifier, batches: list[Batch], parameters: list[str], held: int = 2**28
) -> Tensor:
    """Return the inner products of the examples' loss gradients over some parameters, [n, n] in float64.

    Args:
        model: in eval mode.
        batches: the examples.
        parameters: names of the parameters.
        held: about how many numbers to hold at once; a parameter is never split.
    """
    rows = [batch.part(row, row + 1) for batch in batches for row in range(len(batch))]
    result = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    named = dict(model.named_parameters())
    group: list[nn.Parameter] = []
    for position, name in enumerate(parameters):
        group.append(named[name])
        following = named[parameters[position + 1]].numel() if position + 1 < len(parameters) else held
        if len(rows) * (sum(parameter.numel() for parameter in group) + following) >= held:
            gradients = [torch.autograd.grad(losses(model, row).sum(), group) for row in rows]
            for columns in zip(*gradients, strict=True):
                matrix = torch.stack([column.flatten() for column in columns])
                result += (matrix @ matrix.T).double()
            group = []
    return result


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


def losses(model: EncoderClassifier, batch: Batch) -> Tensor:
    """Return each row's cross-entropy, [n]."""
    scores = model.scores(batch.tasks, **batch.inputs)
    return functional.cross_entropy(scores, batch.answers, reduction="none")


def row_loss(
    model: nn.Module, parameters: dict[str, Tensor], names: list[str], tensors: list[Tensor]
) -> Tensor:
    """Return one row's loss as a function of the parameters, for `torch.func`.

    Args:
        model: an `EncoderClassifier`, in `additive_attention_mask`.
        parameters: values for some of its parameters.
        names: names of the inputs.
        tensors: the row's task, answer and inputs, without the rows' dimension.
    """
    task, answer, *inputs = [tensor.unsqueeze(0) for tensor in tensors]
    keywords = {"task": task, "label": answer, **dict(zip(names, inputs, strict=True))}
    loss: Tensor = functional_call(model, parameters, kwargs=keywords)["loss"]
    return loss


@contextmanager
def additive_attention_mask(model: EncoderClassifier) -> Iterator[None]:
    """Make the encoder fit for `vmap`: its mask as numbers to add, [n, 1, 1, T], and attention as plain products.

    Transformers looks into a mask of zeros and ones to see whether it can be dropped, which `vmap` does not allow.
    The fused attention kernel works under `vmap`, but more slowly than plain products.
    """

    def replace(module: nn.Module, args: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        padding = keywords["attention_mask"][:, None, None, :] == 0
        mask = torch.zeros(padding.shape).masked_fill(padding, torch.finfo(torch.float32).min)
        return args, keywords | {"attention_mask": mask}

    attention = model.encoder.config._attn_implementation
    model.encoder.set_attn_implementation("eager")
    hook = model.encoder.register_forward_pre_hook(replace, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
        model.encoder.set_attn_implementation(attention)


@contextmanager
def only_trainable(model: nn.Module, names: Iterable[str]) -> Iterator[None]:
    """Let only the named parameters ask for gradients, for a while."""
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    chosen = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    try:
        yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that ask for gradients, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the Linear layers with trainable weights, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    }


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
