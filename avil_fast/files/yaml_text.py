"""YAML as settings are written in it: no objects, no key twice, and one kind of error for whatever is wrong."""

from __future__ import annotations

from typing import Any

import yaml

from avil_fast.errors import reason


class NoYaml(ValueError):
    """Says in one line what is wrong, and where."""


def parse(text: str) -> Any:
    """What a text holds.

    Raises:
        NoYaml: it is no YAML, has a key twice, or asks for what no settings need.
    """
    try:
        return _Loader(text).get_single_data()
    except RecursionError:
        raise NoYaml("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError, TypeError) as error:
        # The last four: a date, a number or a word that is none, with its type before it, as in `!!bool maybe`.
        raise NoYaml(reason(error).replace('in "<unicode string>", ', "at ")) from error


MOST_KEYS = 10_000
"""Of a mapping; by merging aliases of each other, a file of a few lines makes any number."""


def to_yaml(value: Any) -> str:
    """A value as YAML that `parse` reads as the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes strings with Unicode line breaks, which PyYAML would read back changed."""


def _quoted(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted)


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, of which PyYAML silently keeps the last."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_KEYS:
            said = f"a mapping has {len(node.value)} keys, but may have {MOST_KEYS}"
            raise yaml.MarkedYAMLError(problem=said, problem_mark=node.start_mark)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    said = f"{key.value!r} is there twice"
                    raise yaml.MarkedYAMLError(problem=said, problem_mark=key.start_mark)
                seen.add((key.tag, key.value))
        return node
