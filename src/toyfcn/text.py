"""Text from files and users, made safe to print."""

from __future__ import annotations

import traceback
import unicodedata
from collections.abc import Sequence
from pathlib import Path


def printable(text: object, longest: int | None = None) -> str:
    """Return a text in one line, without what could speak to a terminal; cut to ``longest``.

    Control and direction characters become �; bytes of a file's name that are no text, escapes.
    """
    whole = str(text).encode("utf-8", "backslashreplace").decode()
    shown = "".join("�" if unicodedata.category(c)[0] == "C" else c for c in whole)
    return shown if longest is None or len(shown) <= longest else shown[: longest - 1] + "…"


def first_line(error: BaseException, longest: int = 160) -> str:
    """Return the beginning of what an error says, or its type's name where it says nothing.

    A first line that ends with a colon is continued by the second one.
    """
    lines = str(error).splitlines() or [type(error).__name__]
    whole = " ".join(map(str.strip, lines[:2])) if lines[0].endswith(":") else lines[0]
    return printable(whole, longest)


def fault(error: BaseException) -> str:
    """Say what code of others raised, and at which line of the current folder's files."""
    said, here = f"{type(error).__name__}: {first_line(error)}", Path.cwd()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).is_relative_to(here) and "site-packages" not in frame.filename:
            place = printable(Path(frame.filename).relative_to(here))
            return f"{said} ({place}, line {frame.lineno})"
    return said


def no_formula(text: str) -> str:
    """Keep a spreadsheet from computing what a cell says; numbers stay as they are."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
    return text


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first of some names, for messages."""
    return ", ".join(ascii(name)[1:-1] for name in names[:most]) + ", …" * (len(names) > most)
