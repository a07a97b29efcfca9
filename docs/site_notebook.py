"""The notebook as a page: it is run, with what its cells print and draw below each of them."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient


def execute(path: Path) -> Any:
    """Run a notebook in a temporary folder and return it with its outputs.

    Raises:
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # it has no types
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=300,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--IPKernelApp.log_level=40"],  # errors only
        )
        return client.execute()


def run(path: Path) -> tuple[str, dict[str, bytes]]:
    """Run a notebook: return it as Markdown, and its pictures by file name."""
    notebook = execute(path)
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        printed = "".join(output.get("text", "") for output in cell.outputs)
        if printed:
            parts.append(f'```{{.text title="prints"}}\n{printed.rstrip()}\n```')
        for output in cell.outputs:
            if picture := output.get("data", {}).get("image/png"):
                name = f"{path.stem}_{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(picture)
                parts.append(f"![what the cell above draws]({name})")
    return "\n\n".join(parts) + "\n", pictures
