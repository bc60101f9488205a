"""Which layers are trained: surgical fine-tuning trains one contiguous part of a network and freezes the others."""

from torch import nn

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.blocks import EMBEDDINGS, HEAD
from gradsift.components.shared.models.encoder_classifier import EncoderClassifier
from gradsift.components.shared.models.language_model import LanguageModel
from gradsift.components.shared.models.task_model import TaskModel
from gradsift.components.shared.parameters.training import Scope

PARTS = 3
"""Early, middle and late layers."""


def set_trained(model: TaskModel, scope: Scope, train_embeddings: bool) -> tuple[int, int]:
    """Freeze all parameters outside a scope, and those that no training of the model changes.

    Args:
        model: the model.
        scope: which part of it is trained.
        train_embeddings: whether embedding tables, and a language model's output layer, may be trained.

    Returns:
        The number of parameters that are trained, and how many the scope `all` would train.

    Raises:
        InputError: see `parameters_in`.
    """
    model.freeze_untrained(train_embeddings)
    of_all = _trained(model)
    inside = {id(each) for each in parameters_in(model, scope, train_embeddings)}
    for parameter in model.parameters():
        if id(parameter) not in inside:
            parameter.requires_grad_(False)
    return _trained(model), of_all


def parameters_in(model: TaskModel, scope: Scope, train_embeddings: bool) -> list[nn.Parameter]:
    """Return the parameters of a scope, frozen ones among them.

    Early, middle and late layers are a third each; what is left over goes to the middle.

    Args:
        model: the model, what no text reaches being frozen.
        scope: the part of it.
        train_embeddings: as of `set_trained`.

    Raises:
        InputError: the model has no such part, or nothing in it may be trained.
    """
    if scope == "all":
        return list(model.parameters())
    blocks = model.blocks()
    layers = [block for block in blocks if block.is_layer]
    if scope in (EMBEDDINGS, HEAD):
        _check_trainable(model, scope, train_embeddings)
        chosen = [block for block in blocks if block.name == scope]
    elif len(layers) < PARTS:
        reason = f"the base model has {len(layers)} layers of its own, fewer than {PARTS}"
        raise _refusal(scope, "'all'", reason)
    else:
        third = len(layers) // PARTS
        chosen = {"early": layers[:third], "middle": layers[third:-third], "late": layers[-third:]}[scope]
    return [each for block in chosen for each in block.parameters]


def _trained(model: TaskModel) -> int:
    return sum(each.numel() for each in model.parameters() if each.requires_grad)


def _check_trainable(model: TaskModel, scope: Scope, train_embeddings: bool) -> None:
    if isinstance(model, LanguageModel) and model.settings.adapter:
        raise _refusal(scope, "all, early, middle or late", "adapters are put on layers")
    if isinstance(model, EncoderClassifier) and scope == HEAD:
        if model.head.kind == "label_embedding":
            others = "some of all, early, middle, late, embeddings"
            raise _refusal(scope, others, "the head 'label_embedding' is fixed")
    elif not train_embeddings:
        frozen = (
            "embedding tables are"
            if scope == EMBEDDINGS
            else "the output layer is, with the embedding tables,"
        )
        raise _refusal(scope, "model_train_embeddings true, or another scope", f"{frozen} frozen")


def _refusal(scope: Scope, expected: str, reason: str) -> InputError:
    return InputError(f"Parameter fine_tune_scopes holds {scope!r}: expected {expected}, as {reason}.")
