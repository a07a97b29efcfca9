"""toyfcn-predict: write palette masks and overlays of any photos, from a checkpoint alone."""

from __future__ import annotations

from toyfcn.cli.launch import launch


def main() -> None:
    """Start the command."""
    job = "toyfcn.inference.predict:run_command"
    launch("toyfcn-predict", "predict", job, positional="source")
