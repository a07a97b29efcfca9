"""What ``--help`` prints: one screen, and more of a group by ``--help GROUP``.

All of it is read off the schema and the files in conf/: nothing is composed, nothing is told twice.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from toyfcn.cli.errors import hint
from toyfcn.config.data import KINDS
from toyfcn.config.data_options import DataConfig

NOTES = """\
-m runs every combination of comma-separated values, --cfg job prints the config that a run would
have, --config-dir DIR adds a folder of your configs, --hydra-help lists Hydra's own flags."""
COMPLETION = 'Tab completion in bash: eval "$({command} -sc install=bash)"'
COLUMN = 26  # where values begin
SCREEN = 40  # lines
OF_TRAINING = ("experiment", "debug", "launcher")  # groups that choose for several others


def help_topic(words: Sequence[str]) -> str | None:
    """Return what a command line asks help about; None: it does not ask, "": for a first screen."""
    asked = {"--help", "-h"}
    if not asked & {*words} and words[:1] != ["help"]:
        return None
    named = [word for word in words if word not in asked and word != "help" and "=" not in word]
    return named[0].lstrip("-") if named else ""


def describe(command: str, schema: type, conf: Path, topic: str = "") -> str:
    """Return the help of a command whose options are those of the dataclass ``schema``.

    ``topic`` is a group, ``options`` (those in none), or ``all``; "": what fits on one screen.

    Raises:
        ValueError: there is no such topic.
    """
    width = min(100, shutil.get_terminal_size().columns)
    about, _, examples = (inspect.getdoc(schema) or "").partition("\n\n")
    head = f"{command}: {about[:1].lower()}{about[1:]}\n\n"
    head += f"usage: {command} [group=choice ...] [option=value ...]"
    if examples:
        head += f"\n\nexamples\n{textwrap.indent(inspect.cleandoc(examples), '  ')}"
    fields, kinds = dataclasses.fields(schema), groups_in(schema)
    chosen = [f.name for f in fields if (conf / f.name).is_dir()]
    chosen += OF_TRAINING if "recipe" in chosen else ()
    options = "options\n" + option_lines([f for f in fields if f.metadata], "", width)
    # a command of several words has no completion
    ending = NOTES if " " in command else f"{NOTES}\n{COMPLETION.format(command=command)}"
    topics = {"options": options} | {
        name: group_lines(name, kinds, conf if name in chosen else None, width)
        for name in [*chosen, *(name.partition(".")[0] for name in kinds)]
    }
    if topic == "all":
        return "\n\n".join([head, *topics.values(), ending])
    if topic:
        if topic not in topics:
            raise ValueError(f"--help {topic}: no such group ({hint(topic, [*topics, 'all'])})")
        return topics[topic]
    if not chosen:
        return "\n\n".join([head, options, ending])
    names = [entry(name, "", " | ".join(shortened(choices(conf / name))), width) for name in chosen]
    groups = "groups\n" + "\n".join(names)
    told = (
        f"--help GROUP lists a group's choices and options, --help all lists everything.\n{ending}"
    )
    screen = "\n\n".join([head, groups, options, told])
    if screen.count("\n") < SCREEN:
        return screen
    listed = ", ".join(f.name for f in fields if f.metadata)
    return "\n\n".join([head, groups, "options (--help options)\n" + f"  {listed}", told])


def group_lines(name: str, kinds: dict[str, type], conf: Path | None, width: int) -> str:
    """Describe a group: its choices in ``conf``, if it has any, and its options."""
    parts = []
    if conf is not None:
        listed = [choice_line(conf / name, choice, width) for choice in choices(conf / name)]
        parts.append(f"{name}=…\n" + "\n".join(listed))
    for full, kind in kinds.items():
        if full.partition(".")[0] != name:
            continue
        common = dataclasses.fields(kind)
        title = f"{full}: {inspect.getdoc(kind)}".partition("\n")[0]
        parts.append(f"{title}\n{option_lines(common, f'{full}.', width)}")
        for special in KINDS.values() if kind is DataConfig else ():
            own = [f for f in dataclasses.fields(special) if f.name not in {c.name for c in common}]
            if own:
                title = f"{full}, only for: {inspect.getdoc(special)}".partition("\n")[0]
                parts.append(f"{title}\n{option_lines(own, f'{full}.', width)}")
    return "\n\n".join(parts)


def option_names(schema: type) -> list[str]:
    """Return the full name of every option of a command, and those of its groups."""
    found = [item.name for item in dataclasses.fields(schema)]
    for name, kind in groups_in(schema).items():
        parts = [kind, *(KINDS.values() if kind is DataConfig else ())]
        found += [f"{name}.{item.name}" for part in parts for item in dataclasses.fields(part)]
    return list(dict.fromkeys(found))


def groups_in(schema: type, prefix: str = "") -> dict[str, type]:
    """Return the groups of a schema by name, those within a group (``sweep.claim``) included."""
    found: dict[str, type] = {}
    for name, hinted in get_type_hints(schema).items():
        kind = DataConfig if name == "data" else hinted  # of any kind, or null as in the checkpoint
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            found |= {f"{prefix}{name}": kind} | groups_in(kind, f"{prefix}{name}.")
    return found


def choices(folder: Path) -> list[str]:
    """Return the names of a group's files, those in folders within it last."""
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: (path.parent != folder, path))
    return [path.relative_to(folder).with_suffix("").as_posix() for path in paths]


def shortened(names: Sequence[str]) -> list[str]:
    """Return one name for each folder in the place of all that is in it: paper/…"""
    return list(dict.fromkeys(f"{n.rpartition('/')[0]}/…" if "/" in n else n for n in names))


def choice_line(folder: Path, choice: str, width: int) -> str:
    """Name a choice, with the first sentence of the comment on top of its file."""
    text = (folder / f"{choice}.yaml").read_text(encoding="utf-8")
    comment = re.findall(r"^# (?!@package)(.*)", text, re.M)
    sentence = re.split(r"(?<=\.) |: (?=see )", " ".join(comment[:2]))[0] if comment else ""
    return entry(f"{folder.name}={choice}", "", sentence, width)


def option_lines(fields: Iterable[dataclasses.Field[Any]], prefix: str, width: int) -> str:
    """List options with default, meaning and what values they may have."""
    return "\n".join(
        entry(f"{prefix}{item.name.rstrip('_')}", f"[{default(item)}] ", meaning(item), width)
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
