"""Reads a YAML document that a person wrote: plain texts, numbers, true, false, null, lists and mappings."""

from collections.abc import Hashable
from typing import Any

import yaml

from gradsift.components.shared.documents.texts import is_valid_unicode
from gradsift.components.shared.errors import InputError

MAX_YAML_BYTES = 2**20
MAX_NODES = 100_000
"""Bound of a document's values, each counted as often as aliases repeat it."""
MAX_DEPTH = 32
MAX_DIGITS = 100
PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
TAG = "tag:yaml.org,2002:"
MERGE = f"{TAG}merge"


def load_yaml(content: bytes, where: str, expected: str) -> Any:
    """Return what a YAML document holds; dates are texts.

    Args:
        content: the document in UTF-8, at most `MAX_YAML_BYTES`.
        where: the file, for errors.
        expected: what the document should be, for errors.

    Raises:
        InputError: it is no YAML, is too large, has a tag for anything but plain data, or names a key twice; the
            message names the line where there is one.
    """
    if len(content) > MAX_YAML_BYTES:
        raise InputError(f"{where} is larger than {MAX_YAML_BYTES:,} bytes: expected {expected}.")
    try:
        loader = _Loader(content)
        root = loader.get_single_node()
        if root is None:
            return None
        _check_size(root)
        return loader.construct_document(root)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{where} is not valid YAML{line} ({_reason(error)}): expected {expected}."
        ) from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader for plain data alone, which takes a key once and a value for what it looks like."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{TAG}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        **{f"{TAG}{name}": yaml.SafeLoader.yaml_constructors[f"{TAG}{name}"] for name in PLAIN},
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH and parent is not None:
            raise _error("it is nested too deeply", parent)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in self.yaml_constructors:
            raise _error(f"the tag {node.tag.replace(TAG, '!!')[:60]!r} is none of plain data", node)
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE:
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _error("a key is a list or a mapping", key_node)
            key = self.construct_object(key_node)
            if key in keys:
                raise _error(f"the key {key_node.value[:60]!r} is there twice", key_node)
            keys.add(key)
        return super().construct_mapping(node, deep)

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        if node.tag == f"{TAG}str":
            if not is_valid_unicode(node.value):
                raise _error("a text holds half of a surrogate pair", node)
        elif node.tag != self.resolve(yaml.ScalarNode, node.value, (True, False)):
            raise _error(f"{node.value[:60]!r} is not of the type {node.tag.removeprefix(TAG)}", node)
        elif len(node.value) > MAX_DIGITS:
            raise _error(f"a number has more than {MAX_DIGITS} digits", node)


def _check_size(root: yaml.Node) -> None:
    """Raise an error where a document is larger than allowed with its aliases written out, or contains itself."""
    left, count = [root], 0
    while left:
        node = left.pop()
        count += 1
        if count > MAX_NODES:
            raise _error(f"more than {MAX_NODES:,} values, counted as often as aliases repeat them", root)
        if isinstance(node, yaml.MappingNode):
            left += [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value


def _error(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _reason(error: Exception) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    return " ".join(str(problem).split())[:200]
