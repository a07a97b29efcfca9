"""A command line before Hydra reads it: what words without ``=`` mean, or what to type instead."""

from __future__ import annotations

import os
from collections.abc import Sequence

from toyfcn.cli import CONF
from toyfcn.cli.errors import hint
from toyfcn.cli.help import OF_TRAINING, choices

FLAGS = {  # Hydra's, and whether a value comes after them
    **dict.fromkeys(("-m", "--multirun", "-r", "--run", "--resolve", "--hydra-help"), False),
    **dict.fromkeys(("-sc", "--shell_completion", "-i", "--info"), True),
    **dict.fromkeys(("-c", "--cfg", "-p", "--package"), True),
    **dict.fromkeys(("-cp", "--config-path", "-cn", "--config-name"), True),
    **dict.fromkeys(("-cd", "--config-dir"), True),
}


def complete(words: Sequence[str], options: Sequence[str], positional: str | None) -> list[str]:
    """Return a command line in which each word is a flag, the value of one, or option=value.

    ``options`` are the command's; other words are values of the option ``positional``, if there is
    one.

    Raises:
        ValueError: a word is none of these; the message says what to type.
    """
    kept: list[str] = []
    values: list[str] = []
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        following = words[number + 1] if number + 1 < len(words) else ""
        name = word.partition("=")[0]
        if "-cn" in (before, name) or "--config-name" in (before, name):
            refuse_choice(word.rpartition("=")[2])
        of_flag = FLAGS.get(before, False)
        a_file = positional and not of_flag and os.path.exists(word)  # noqa: PTH110  # Path's fails on long words
        option = ("=" in word and name[:1] != "-") or word[:1] == "~"
        if of_flag or name in FLAGS or (option and not a_file):
            kept.append(word)
        elif positional and word[:1] != "-":
            values.append(word)
        else:
            raise ValueError(what_to_type(word, following, options))
    if values:
        listed = ",".join("'" + value.replace("'", "\\'") + "'" for value in values)
        kept.append(f"{positional}=[{listed}]" if len(values) > 1 else f"{positional}={listed}")
    return kept


def refuse_choice(config: str) -> None:
    """Check that what -cn names is a whole config, and no choice of a group.

    Raises:
        ValueError: it is one; the message says what to type.
    """
    group, slash, choice = config.removesuffix(".yaml").partition("/")
    if slash and (CONF / group).is_dir():
        raise ValueError(f"-cn names a whole config, and {config} is a part: type {group}={choice}")


def what_to_type(word: str, following: str, options: Sequence[str]) -> str:
    """Say how the option that a word seems to mean is given its value."""
    key, given, value = word.lstrip("-").partition("=")
    if key == "help":
        return f"type --help {value}"
    options = [*options, *(OF_TRAINING if "recipe" in options else ())]
    groups = [name for name in options if (CONF / name).is_dir()]
    chosen = [f"{group}={key}" for group in groups if key in choices(CONF / group)]
    key = key.replace("-", "_")
    meant = [name for name in options if name == key or name.endswith(f".{key}")]
    if chosen and not meant:
        return f"{word} is a choice of a group: type {' or '.join(chosen)}"
    if not given and following and "=" not in following and not following.startswith("-"):
        value = following
    advice = " or ".join(f"{name}={value or 'VALUE'}" for name in meant)
    if not meant:
        return f"{word} is not an option and its value, as in option=value ({hint(key, options)})"
    dashes = ": options have no dashes" if word.startswith("-") else " has no value"
    return f"{word}{dashes}: type {advice}"
