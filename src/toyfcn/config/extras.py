"""Libraries that come with an extra, as toyfcn[backbones], and are imported only when needed."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(name: str, extra: str, who: str) -> ModuleType:
    """Import a library; ``who`` needs it, for the message.

    Raises:
        ValueError: it, or what it needs itself, is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{error.name or name} is missing: pip install 'toyfcn[{extra}]' brings what {who} "
            "needs"
        ) from None
