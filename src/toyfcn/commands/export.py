"""toyfcn-export: write a checkpoint's network as ONNX, checked against PyTorch."""

from __future__ import annotations

from toyfcn.cli.launch import launch


def main() -> None:
    """Start the command."""
    launch("toyfcn-export", "export", "toyfcn.inference.export:run_command", positional="ckpt")
