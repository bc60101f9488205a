"""Opens a base model's configuration and tokenizer; a fault in them is one sentence that names the file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradsift.components.shared.documents.json_document import load_json_object
from gradsift.components.shared.errors import InputError, shown
from gradsift.components.shared.models.library_errors import library_errors
from gradsift.components.shared.storage.bounded_reading import read_local_file

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

CONFIG = "config.json"
MAX_CONFIG_BYTES = 2**20
MAX_LAYERS = 10_000
MAX_SIZES = {
    "num_hidden_layers": MAX_LAYERS,
    "num_attention_heads": 100_000,
    "hidden_size": 10_000_000,
    "vocab_size": 100_000_000,
}
"""Bounds of a configuration's numbers, each from 1 on; with larger ones, a library hangs."""
MAX_LISTED = {
    **dict.fromkeys(
        ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers"), MAX_LAYERS
    ),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), MAX_LAYERS),
    "num_labels": 100_000,
}
"""Bounds of the numbers that transformers makes lists of, by what they are called in the file."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Fields that count the experts of a mixture."""
OPTIONAL_NUMBERS = ("max_position_embeddings", "pad_token_id", *EXPERTS)


def open_config(folder: Path, name: str) -> "PreTrainedConfig":
    """Return the configuration of the base model called `name` in a folder.

    Raises:
        InputError: it is no JSON object, transformers does not take it, it needs code of its own, describes
            quantised weights, or a number in it is impossible.
    """
    from transformers import AutoConfig, PreTrainedConfig

    what = f"The {CONFIG} of the base model {name!r}"
    document = load_json_object(read_local_file(folder / CONFIG, MAX_CONFIG_BYTES), what)
    for part in (document, *(each for each in document.values() if isinstance(each, dict))):
        for field in MAX_LISTED.keys() & part.keys():
            if isinstance(part[field], int) and part[field] > MAX_LISTED[field]:
                raise InputError(
                    f"{what}, field {field!r} is {shown(part[field])}: expected at most {MAX_LISTED[field]:,}."
                )
    with library_errors(f"{what} cannot be used"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        text = config.get_text_config()
        sizes = {field: getattr(text, field, 1) for field in MAX_SIZES}
        numbers = {field: getattr(text, field, None) for field in OPTIONAL_NUMBERS}
    if not isinstance(text, PreTrainedConfig) or not hasattr(text, "vocab_size"):
        raise InputError(f"{what} describes no model of texts: expected one with a vocab_size.")
    if document.get("quantization_config") is not None:
        raise InputError(
            f"{what} describes quantised weights, which cannot be trained: expected float weights."
        )
    stored = document.get("dtype", document.get("torch_dtype"))
    if stored is not None and "float" not in str(stored):
        raise InputError(f"{what}, field 'dtype' is {shown(stored)}: expected float32, float16 or bfloat16.")
    architectures = document.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(each, str) for each in architectures):
        raise InputError(
            f"{what}, field 'architectures' is {shown(architectures)}: expected a list of names."
        )
    for field, size in sizes.items():
        if type(size) is not int or not 1 <= size <= MAX_SIZES[field]:
            raise InputError(f"{what}, field {field!r} is {shown(size)}: expected 1 to {MAX_SIZES[field]:,}.")
    for field, number in numbers.items():
        if type(number) not in (int, type(None)):
            raise InputError(f"{what}, field {field!r} is {shown(number)}: expected a whole number.")
    return config


def open_tokenizer(folder: Path, name: str, pads: bool) -> "PreTrainedTokenizerBase":
    """Return the tokenizer of the base model called `name` in a folder.

    Args:
        folder: where its files are.
        name: the base model's name, for errors.
        pads: whether it must have a padding token, as an encoder's.

    A language model's padding token may lie outside its embedding table, for what stands at padding is never looked
    at: the end of sequence takes its place.

    Raises:
        InputError: transformers does not take its files, its vocabulary is missing, it has no padding token, or it
            writes tokens that have no row in the model's embedding table.
    """
    from transformers import AutoTokenizer

    what = f"The tokenizer of the base model {name!r}"
    with library_errors(f"{what} cannot be used"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
        ids: Any = tokenizer("one text", truncation=True, max_length=8)["input_ids"]
        end, padding = tokenizer.eos_token_id, tokenizer.pad_token_id
    if not words or not ids:
        raise InputError(
            f"{what} in {folder} has no vocabulary: expected its tokenizer.json or vocabulary file."
        )
    if pads and padding is None:
        raise InputError(f"{what} has no padding token: expected one, as an encoder reads rows side by side.")
    for token in (end, padding):
        if not isinstance(token, int | None):
            raise InputError(
                f"{what} has the special token {shown(token)}: expected one token of its vocabulary."
            )
    size = vocabulary_size(folder, name)
    beyond = tokens_beyond(tokenizer, size)
    if padding is not None and padding >= size and not pads:
        tokenizer.pad_token, padding = tokenizer.eos_token, end
    written = sorted(set(beyond) - set(tokenizer.get_added_vocab()))
    written += tokenizer.convert_ids_to_tokens(
        [token for token in (*ids, end, padding) if token is not None and token >= size]
    )
    if written:
        raise InputError(
            f"{what} writes {shown(written[0])}, which has no row in the model's embedding table: expected ids "
            f"below the vocab_size {size} of its {CONFIG}."
        )
    return tokenizer


def vocabulary_size(folder: Path, name: str) -> int:
    """Return the number of rows in the embedding table of the base model called `name` in a folder."""
    size: int = open_config(folder, name).get_text_config().vocab_size
    return size


def tokens_beyond(tokenizer: "PreTrainedTokenizerBase", size: int) -> list[str]:
    """Return the tokens whose ids lie outside an embedding table with `size` rows."""
    return [token for token, number in tokenizer.get_vocab().items() if number >= size]
