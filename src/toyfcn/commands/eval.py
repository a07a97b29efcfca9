"""toyfcn-eval: score a checkpoint on any split."""

from __future__ import annotations

from toyfcn.cli.launch import launch


def main() -> None:
    """Start the command."""
    launch(
        "toyfcn-eval",
        "eval",
        "toyfcn.inference.evaluate:run_command",
        with_run=True,
        positional="ckpt",
    )
