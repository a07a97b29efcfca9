"""toyfcn-demo: a page in the browser to try checkpoints on photos of one's own."""

from __future__ import annotations

from toyfcn.cli.launch import launch


def main() -> None:
    """Start the command."""
    launch("toyfcn-demo", "demo", "toyfcn.inference.demo:run_command")
