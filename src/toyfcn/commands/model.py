"""toyfcn-model: print a network layer by layer, without training it or making its weights."""

from __future__ import annotations

from toyfcn.cli.launch import launch


def main() -> None:
    """Start the command."""
    launch("toyfcn-model", "describe", "toyfcn.models.summary:describe")
