"""toyfcn-compare: which of several networks scores better on the same photos."""

from __future__ import annotations

from toyfcn.cli.launch import launch


def main() -> None:
    """Start the command."""
    job = "toyfcn.report.comparison:run_command"
    launch("toyfcn-compare", "compare", job, with_run=True, positional="of")
