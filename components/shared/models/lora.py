"""LoRA adapters on a language model: put on, saved beside the name of their base, and put on again."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from gradsift.components.shared.errors import InputError
from gradsift.components.shared.models.base_model import BaseModel
from gradsift.components.shared.parameters.model import ModelConfig

EVERY_LINEAR_LAYER = "all-linear"


def add_adapter(
    lm: nn.Module, base: BaseModel, config: ModelConfig, task_type: Literal["CAUSAL_LM", "SEQ_2_SEQ_LM"]
) -> Any:
    """Freeze a model and put LoRA adapters on it, which do nothing before they are trained.

    Raises:
        InputError: a name in `lora_targets` is that of no module.
    """
    from peft import LoraConfig, get_peft_model

    every = config.lora_targets == "auto"
    if not every:
        _check_targets(lm, config.target_modules, base.name)
    lora = LoraConfig(
        task_type=task_type,
        revision=base.revision,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=EVERY_LINEAR_LAYER if every else config.target_modules,
    )
    try:
        with _quiet():
            adapted = get_peft_model(lm, lora)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"Parameter lora_targets is {config.lora_targets!r}: {reason}") from error
    adapted.peft_config["default"].base_model_name_or_path = base.name
    return adapted


def save_adapter(lm: Any, folder: Path, state: Mapping[str, Tensor]) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, which names the base and its revision."""
    lm.save_pretrained(folder, state_dict=dict(state), safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink()


def load_adapter(lm: nn.Module, folder: Path) -> Any:
    """Put the adapter that `save_adapter` wrote on its base, to be trained on or used."""
    from peft import PeftModel

    with _quiet():
        return PeftModel.from_pretrained(lm, folder, is_trainable=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back warnings that users can do nothing about: an old name, and a setting that peft corrects itself."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False but the target module is `Conv1D`")
        yield


def _check_targets(lm: nn.Module, targets: list[str], base: str) -> None:
    names = {name.rpartition(".")[2] for name, _ in lm.named_modules()}
    full = {name for name, _ in lm.named_modules()}
    missing = [
        name for name in targets if name not in names and not any(each.endswith(f".{name}") for each in full)
    ]
    if missing:
        linear = sorted(
            {name.rpartition(".")[2] for name, module in lm.named_modules() if _is_linear(module)}
        )
        raise InputError(
            f"Parameter lora_targets names {', '.join(missing)}, which the base model {base!r} has not: expected "
            f"'auto' or some of {', '.join(linear)}."
        )


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)
