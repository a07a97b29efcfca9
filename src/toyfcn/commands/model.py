"""toyfcn-model: a network layer by layer, without training or even making its weights."""

from __future__ import annotations

from toyfcn.cli.launch import launch
from toyfcn.config.commands import DescribeConfig


def main() -> None:
    """Start the command."""
    launch("toyfcn-model", "describe", describe)


def describe(config: DescribeConfig) -> None:
    """Print the table."""
    from toyfcn.models import summary

    summary.describe(config)
