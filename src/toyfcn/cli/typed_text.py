"""Options that are text keep the text that was typed, on the command line and in own files.

Hydra's grammar and YAML make numbers and truth values of words: 2024_11 becomes 202411, 007 becomes
7, ``no`` becomes false. Which options are text is what the schema says.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

import yaml
from hydra.conf import HydraConf
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from toyfcn.cli import CONF
from toyfcn.config.commands import COMMANDS
from toyfcn.config.data import KINDS
from toyfcn.config.option import expanded

# a quoted text, an interpolation, a sign of Hydra's grammar, or a stretch of anything else
TOKEN = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\$\{[^}]*\}|[\[\](),]|[^\[\](),'"$]+|."""
)
COMPUTED = re.compile(r"(tag|range|interval|glob|int|float|bool|str|json_str|extend_list)\(")
UNREAD = object()
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir")  # where Hydra does not expand a ~


class Text(NamedTuple):
    """What is known of an option that is text: it may be null, it may be a list of texts."""

    optional: bool
    listed: bool


@cache
def text_options(command: str) -> dict[str, Text]:
    """Return the options of a command that are text, by key; of all commands for another name."""
    schemas = [COMMANDS[command]] if command in COMMANDS else list(COMMANDS.values())
    found = dict.fromkeys(
        (path.name for path in CONF.iterdir() if path.is_dir()), Text(False, True)
    )
    for schema in schemas:
        found |= texts_in(schema, "")
    for kind in KINDS.values():
        found |= texts_in(kind, "data.")
    return found | texts_in(HydraConf, "hydra.")


def texts_in(kind: type, prefix: str) -> dict[str, Text]:
    """Return the options of a dataclass, and of those in it, that are text."""
    found: dict[str, Text] = {}
    paths = {item.name for item in dataclasses.fields(kind) if item.metadata.get("path")}
    for name, hint in get_type_hints(kind).items():
        args = [hint, *(get_args(hint) if NoneType in get_args(hint) else ())]
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            found |= texts_in(hint, f"{prefix}{name}.")
        elif str in args or list[str] in args or name in paths:
            anything = hint is Any  # a path, or a list of them
            found[prefix + name] = Text(NoneType in args or anything, str not in args)
    return found


# ---- the command line ----
def as_typed(words: Sequence[str], command: str) -> list[str]:
    """Quote the values of options that are text, where Hydra would read them as anything else."""
    return [quoted_where_needed(word, text_options(command)) for word in words]


def quoted_where_needed(word: str, options: dict[str, Text]) -> str:
    """Return ``key=value`` so that a text is read as it stands; a list or sweep stays one."""
    key, _, value = word.partition("=")
    text = options.get(key.lstrip("+").partition("@")[0])
    if text is None or not value or word[0] == "-" or COMPUTED.match(value):
        return word
    if key in FOLDERS:
        value = expanded(value)
    elements, element = [], ""
    for token in [*TOKEN.findall(value), ""]:
        if token in ("[", "]", "(", ")", ",", ""):
            name = token == "(" and element in ("choice", "shuffle", "sort")
            elements.append(element if name else quoted(element, text.optional))
            elements.append(token)
            element = ""
        else:
            element += token
    told = "".join(elements)
    answer = read(told)
    if answer is UNREAD and text.listed and value[0] == "[" and value[-1] == "]":
        told = f"[{','.join(quote(item.strip()) for item in value[1:-1].split(','))}]"
    elif answer is UNREAD or (isinstance(answer, list | dict) and not text.listed):
        told = quote(value)  # its commas and brackets are of the text
    return f"{key}={told}"


def quoted(element: str, optional: bool) -> str:
    """Quote one text, unless Hydra reads it as the text that it is, or as the null it may be."""
    bare = element.strip()
    if not bare or set(bare) & set("'\"$\\") or (optional and bare.lower() == "null"):
        return element
    return element if read(bare) == bare else quote(bare)


def quote(text: str) -> str:
    """Write a text as Hydra's grammar takes it, whatever characters it has."""
    return QuotedString(text, Quote.single).with_quotes()


def read(value: str) -> Any:
    """Return what Hydra makes of a value; UNREAD where its grammar does not know it."""
    try:
        return OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException:
        return UNREAD


# ---- own files ----
def keep_text(config: Any, file: Path, package: str, command: str) -> None:
    """Put texts as they stand in a YAML file in the place of what YAML has made of them.

    ``config`` is what was read from the file, at its place ``package`` in the whole config.

    Raises:
        ValueError: keys with values stand where a text does, or a list.
    """
    loader = yaml.SafeLoader(file.read_text(encoding="utf-8"))
    root = loader.get_single_node()
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ValueError("a config has keys with values")
    prefix = f"{package}." if package else ""
    for key, text in text_options(command).items():
        if not key.startswith(prefix):
            continue
        node = root
        for part in key.removeprefix(prefix).split("."):
            if isinstance(node, yaml.MappingNode):
                loader.flatten_mapping(node)  # of <<: *others
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            node = next((value for name, value in pairs if name.value == part), None)
        if isinstance(node, yaml.ScalarNode):
            null = node.tag == "tag:yaml.org,2002:null" and (text.optional or not node.value)
            if text.listed and not text.optional and not null and "${" not in node.value:
                raise ValueError(f"{key} is a list: [a, b, …], not {node.value}")
            if not null:
                OmegaConf.update(config, key, node.value)
        elif isinstance(node, yaml.MappingNode) and "." in key:
            kind = "a list: [a, b, …]" if text.listed else "a text"
            raise ValueError(f"{key} is {kind}, not keys with values")
        elif isinstance(node, yaml.SequenceNode) and text.listed:
            items = [item.value for item in node.value]
            if all(isinstance(item, str) for item in items):  # of a list in it, that is nodes
                OmegaConf.update(config, key, items)
