"""What ``--help`` prints: examples, groups with their choices, options with their meanings.

All of it is read off the schema and the files in conf/: nothing is composed, nothing is told twice.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_type_hints

NOTES = """\
-m runs every combination of comma-separated values, --cfg job prints the config that a run would
have, --config-dir DIR adds a folder of your configs, --hydra-help tells of Hydra's own flags."""
COMPLETION = 'Tab completion in bash: eval "$({command} -sc install=bash)"'
COLUMN = 26  # where values begin


def describe(command: str, schema: type, conf: Path) -> str:
    """Return the help of a command whose options are those of the dataclass ``schema``."""
    width = min(100, shutil.get_terminal_size().columns)
    about, _, examples = (inspect.getdoc(schema) or "").partition("\n\n")
    parts = [
        f"{command}: {about[:1].lower()}{about[1:]}",
        f"usage: {command} [group=choice ...] [option=value ...]",
    ]
    if examples:
        parts.append(f"examples\n{textwrap.indent(inspect.cleandoc(examples), '  ')}")
    fields = dataclasses.fields(schema)
    named = [f.name for f in fields if (conf / f.name).is_dir()]
    if "recipe" in named:  # a training: the groups that choose for several others
        named += ["experiment", "debug", "launcher"]
    if choices := "\n".join(line for name in named for line in choice_lines(conf / name, width)):
        parts.append(f"groups\n{choices}")
    plain = [f for f in fields if f.metadata]
    parts.append("options\n" + option_lines(plain, "", width))
    for name, kind in groups_in(schema).items():
        common = dataclasses.fields(kind)
        title = f"{name}: {inspect.getdoc(kind)}".partition("\n")[0]
        parts.append(f"{title}\n{option_lines(common, f'{name}.', width)}")
        for special in list[type](kind.__subclasses__()):
            own = [f for f in dataclasses.fields(special) if f.name not in {c.name for c in common}]
            if own:
                title = f"{name}, only for: {inspect.getdoc(special)}".partition("\n")[0]
                parts.append(f"{title}\n{option_lines(own, f'{name}.', width)}")
    # a command of several words has none
    ending = NOTES if " " in command else f"{NOTES}\n{COMPLETION.format(command=command)}"
    return "\n\n".join([*parts, ending])


def groups_in(schema: type, prefix: str = "") -> dict[str, type]:
    """Return the groups of a schema by name, those within a group (``sweep.claim``) included."""
    found: dict[str, type] = {}
    for name, kind in get_type_hints(schema).items():
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            found |= {f"{prefix}{name}": kind} | groups_in(kind, f"{prefix}{name}.")
    return found


def choice_lines(folder: Path, width: int) -> list[str]:
    """List a group's choices, each with the first sentence of the comment on top of its file."""
    lines = []
    for path in sorted(folder.glob("*.yaml")):
        comment = re.findall(r"^# (?!@package)(.*)", path.read_text(encoding="utf-8"), re.M)
        sentence = re.split(r"(?<=\.) |: (?=see )", " ".join(comment[:2]))[0] if comment else ""
        lines.append(entry(f"{folder.name}={path.stem}", "", sentence, width))
    return lines


def option_lines(fields: Iterable[dataclasses.Field[Any]], prefix: str, width: int) -> str:
    """List options with default, meaning and what values they may have."""
    return "\n".join(
        entry(f"{prefix}{item.name}", f"[{default(item)}] ", meaning(item), width)
        for item in fields
        if item.metadata
    )


def default(item: dataclasses.Field[Any]) -> str:
    """Write an option's default as it is typed."""
    factory = item.default_factory
    value: Any = item.default if factory is dataclasses.MISSING else factory()
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value).strip("[]").replace(", ", ",")


def meaning(item: dataclasses.Field[Any]) -> str:
    """Say what an option means, and its choices or bounds."""
    rule = item.metadata
    low, high = rule["low"], rule["high"]
    if rule["choices"]:
        allowed = " | ".join(str(choice) for choice in rule["choices"])
    elif low is not None and high is not None:
        allowed = f"{low} to {high}"
    elif low is not None:
        allowed = f"at least {low}"
    else:
        allowed = "" if high is None else f"at most {high}"
    return f"{rule['meaning']} ({allowed})" if allowed else str(rule["meaning"])


def entry(name: str, value: str, text: str, width: int) -> str:
    """Set a name on the left and a wrapped text beside it."""
    lines = textwrap.wrap(value + text, max(30, width - COLUMN - 2)) or [""]
    gap = " " * (COLUMN + 2)
    head = f"  {name:<{COLUMN}}" if len(name) < COLUMN else f"  {name}\n{gap}"
    return (head + f"\n{gap}".join(lines)).rstrip()
