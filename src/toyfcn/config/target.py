"""Code of the user's own, named as ``package.module:name`` with arguments.

Only the command line and the user's own config files name code. What a file names that was only
loaded (a checkpoint, a run's stored config) is imported where the user trusts its package.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import itertools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toyfcn.text import fault, printable

TRUST = "packages whose code a checkpoint may name; also in the variable TOYFCN_TRUST"


def targets(config: Any) -> list[str]:
    """Return what the options of a config name as package.module:name."""
    found: list[str] = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            found += targets(value)
            continue
        if item.metadata.get("target") is None or value is None:
            continue
        if isinstance(value, list):
            found += [target for target, _ in entries(item.name, value)]
        elif ":" in value or not item.metadata["choices"]:
            found.append(value)
    return found


def entries(name: str, listed: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return target and arguments of each entry of an option that is a list of targets.

    An entry is package.module:name, or {target: package.module:name, args: {…}}.

    Raises:
        ValueError: one is neither; ``name`` is the option.
    """
    found = []
    for entry in listed:
        parts = {"target": entry} if isinstance(entry, str) else entry
        if not (isinstance(parts, dict) and {"target"} <= {*parts} <= {"target", "args"}):
            raise ValueError(
                f"{name}: {str(entry)[:80]} is neither package.module:name nor "
                "{target: package.module:name, args: {…}}"
            )
        target, args = parts["target"], parts.get("args") or {}
        if not isinstance(target, str) or not isinstance(args, dict):
            raise ValueError(f"{name}: {str(entry)[:80]} has a target or args of another type")
        found.append((target, {str(key): value for key, value in args.items()}))
    return found


def names_of(listed: Any) -> list[str]:
    """Return a name for each entry: the target's last part, with a number from the second on."""
    found: list[str] = []
    for target, _ in entries("", listed):
        name = target.rpartition(":")[2].rpartition(".")[2]
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        found.append(name if name not in found else next(n for n in numbered if n not in found))
    return found


def make_all(name: str, listed: Any) -> list[tuple[str, Any]]:
    """Import and call what each entry of an option names; return (entry for messages, made)."""
    return [
        (told := f"{name}: {target}", call(told, find(told, target), args))
        for target, args in entries(name, listed)
    ]


def package_of(target: str) -> str:
    """Return the package that a target is of: what ``trust=`` names."""
    return target.partition(":")[0].partition(".")[0]


def refuse_untrusted(config: Any, trust: Sequence[str], where: str) -> None:
    """Check that the code which a file's config names is of packages that the user trusts.

    ``trust`` is what trust= says; the environment variable TOYFCN_TRUST (a,b,…) is heeded too.

    Raises:
        ValueError: it is not; nothing was imported.
    """
    allowed = (*trust, *os.environ.get("TOYFCN_TRUST", "").split(","))
    wanted = [found for found in targets(config) if package_of(found) not in {*allowed} - {""}]
    if wanted:
        packages = ",".join(printable(p, 80) for p in dict.fromkeys(map(package_of, wanted[:20])))
        named = ", ".join(printable(found, 80) for found in wanted[:20])
        raise ValueError(
            f"{where} wants to run code of yours or of others, {named}: if you trust it, "
            f"add trust=[{packages}], or set TOYFCN_TRUST={packages}"
        )


def call(name: str, made: Callable[..., Any], args: Mapping[str, Any]) -> Any:
    """Call what ``find`` has imported; ``name`` is its option.

    Raises:
        ValueError: it does not take these arguments, or fails on them.
    """
    signature = inspect.signature(made)
    try:
        signature.bind(**args)
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "nothing"
        raise ValueError(f"{name} cannot be called: {error} (it takes {takes})") from None
    try:
        return made(**args)
    except (Exception, SystemExit) as error:  # whatever code of others may raise
        raise ValueError(f"{name} fails: {fault(error)}") from error


def find(name: str, target: str, library: str = "") -> Callable[..., Any]:
    """Import what a target names, from the current folder too; ``name`` is its option.

    A target without a module is of the ``library``.

    Raises:
        ValueError: it does not exist, cannot be imported, or cannot be called.
    """
    target = target if ":" in target or not library else f"{library}:{target}"
    module_name, _, attribute = target.partition(":")
    if not all(part.isidentifier() for part in f"{module_name}.{attribute}".split(".")):
        raise ValueError(f"{name} is not package.module:name, such as mynets:SmallNet")
    here = str(Path.cwd())
    if not {"", here} & {*sys.path}:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise ValueError(f"{name} needs a module that is missing: {error.name}") from None
        raise ValueError(
            f"{name}: there is no module {error.name}, neither in {here} nor installed"
        ) from None
    except (Exception, SystemExit) as error:  # whatever code of others may raise
        raise ValueError(f"{name} cannot be imported: {fault(error)}") from error
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [known for known in vars(found) if not known.startswith("_")]
            close = difflib.get_close_matches(part, known, 3)
            hint = f": did you mean {' or '.join(close)}?" if close else ""
            raise ValueError(f"{name}: {module_name} has no {part}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name} is a {type(found).__name__}, which cannot be called")
    made: Callable[..., Any] = found
    return made
