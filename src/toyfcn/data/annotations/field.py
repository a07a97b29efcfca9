"""A value of an annotation file that knows its place there, so that a fault can name it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from toyfcn.text import first_line, printable

KINDS: dict[type, str] = {
    **{dict: "an object", list: "a list", str: "text", int: "a number", bool: "true or false"},
    type(None): "null",
}


@dataclass(frozen=True)
class Field:
    """A value in ``file`` at ``place``, such as shapes[2].points.

    Every method raises ValueError where the value is of another kind; the message names file and
    place.
    """

    value: Any
    file: Path
    place: str = ""

    def wrong(self, problem: str) -> ValueError:
        """Return the error that says what is wrong with this value."""
        place = f"{printable(self.place, 160)}: " if self.place else ""
        return ValueError(printable(f"{self.file}: {place}{problem}", 400))

    def is_not(self, wanted: str) -> ValueError:
        """Return the error that this value is not what is wanted."""
        kind = KINDS.get(type(self.value)) or repr(self.value)[:40]  # of a date, or 2.5
        return self.wrong(f"is {kind}, not {wanted}")

    def noted(self, note: object) -> Field:
        """Return the same with a note at its place, such as an id."""
        return replace(self, place=f"{self.place} ({str(note)[:80]})")

    def get(self, key: str) -> Field | None:
        """Return what an object has under a key; None: nothing, or null."""
        if not isinstance(self.value, Mapping):
            raise self.is_not("an object")
        if self.value.get(key) is None:
            return None
        return Field(self.value[key], self.file, f"{self.place}.{key}".lstrip("."))

    def __getitem__(self, key: str) -> Field:
        """Return what an object must have under a key."""
        found = self.get(key)
        if found is None:
            raise self.wrong(f"has no {key}")
        return found

    def items(self) -> list[Field]:
        """Return the elements of a list."""
        if not isinstance(self.value, list):
            raise self.is_not("a list")
        return [
            Field(value, self.file, f"{self.place}[{index}]")
            for index, value in enumerate(self.value)
        ]

    def text(self) -> str:
        """Return a text that can be printed and is not empty."""
        if not isinstance(self.value, str):
            raise self.is_not("text")
        if not self.value.strip():
            raise self.wrong("is empty")
        if not self.value.isprintable():
            raise self.wrong(f"{self.value[:40]!r} has characters that cannot be printed")
        return self.value

    def identifier(self) -> int | str:
        """Return what something is known by: a whole number or a text."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | str):
            raise self.is_not("an id")
        return self.value

    def number(self) -> float:
        """Return a finite number; text, as all of XML is, may stand for one."""
        try:
            if isinstance(self.value, bool):
                raise TypeError
            found = float(self.value)
        except (TypeError, ValueError, OverflowError):
            raise self.is_not("a number") from None
        if not math.isfinite(found):
            raise self.wrong(f"is {found}")
        return found

    def integer(self) -> int:
        """Return a whole number."""
        found = self.number()
        if found != int(found):
            raise self.is_not("a whole number")
        return int(found)

    def numbers(self) -> NDArray[np.float64]:
        """Return a list of finite numbers: float64 (N,)."""
        if not isinstance(self.value, list) or not {*map(type, self.value)} <= {int, float}:
            return np.array([item.strictly_number() for item in self.items()])
        try:
            found = np.array(self.value, np.float64)
        except OverflowError:
            raise self.wrong("holds a number of too many digits") from None
        for index in np.flatnonzero(~np.isfinite(found))[:1]:
            raise self.items()[index].wrong(f"is {found[index]}")
        return found

    def strictly_number(self) -> float:
        """Return a finite number that is no text."""
        if isinstance(self.value, str):
            raise self.is_not("a number")
        return self.number()

    def points(self) -> NDArray[np.float64]:
        """Return a list of [x, y]: float64 (N, 2)."""
        rows = []
        for item in self.items():
            row = item.numbers()
            if len(row) != 2:
                raise item.wrong(f"has {len(row)} numbers, not x and y")
            rows.append(row)
        return np.array(rows, np.float64).reshape(-1, 2)


def read_bytes(file: Path) -> bytes:
    """Return what a file holds.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(printable(f"cannot read {file}: {error.strerror or error}")) from None


def read_json(file: Path) -> Field:
    """Read a JSON file.

    Raises:
        ValueError: it cannot be read; the message has the line.
    """
    content, top = read_bytes(file), Field(None, file)
    try:
        return replace(top, value=json.loads(content.decode("utf-8-sig")))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise top.wrong(f"{place}: is not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise top.wrong(f"byte {error.start}: is not JSON: no UTF-8 text") from None
    except RecursionError:
        raise top.wrong("is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise top.wrong(f"is not JSON: {first_line(error)}") from None


def read_yaml(file: Path) -> Field:
    """Read a YAML file.

    Raises:
        ValueError: it cannot be read; the message has the line.
    """
    content, top = read_bytes(file), Field(None, file)
    try:
        return replace(top, value=yaml.safe_load(content.decode("utf-8-sig")))
    except Exception as error:  # PyYAML makes dates and numbers, and lets their errors through
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or first_line(error)
        raise top.wrong(f"{place}is not YAML: {reason}") from None
