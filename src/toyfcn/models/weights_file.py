"""Files of tensors from anywhere: nothing in them is run, none takes more memory than it says."""

from __future__ import annotations

import hashlib
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toyfcn.files import refuse_no_file
from toyfcn.text import first_line

MAX_PICKLE = 64 << 20  # bytes of what stands beside the tensors; 20,000 photos take 0.3 MB


def read_tensors(path: Path, option: str, old_format: bool = False) -> Any:
    """Return what ``torch.save`` wrote into a file: tensors and plain values, on the CPU.

    A file that ends in ``.safetensors`` holds tensors by name, and needs that library. ``option``
    is what named the file (``ckpt``), for messages; ``old_format`` admits files of PyTorch before
    1.6, which are no zip archives.

    Raises:
        ValueError: no file, or none that can be read safely; the message says why.
    """
    refuse_no_file(path, option)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # of the extra toyfcn[backbones]

            return load_file(path)
        if zipfile.is_zipfile(path) or not old_format:
            refuse_zip_bomb(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise ValueError(f"{option}={path} needs safetensors: pip install safetensors") from None
    except Exception as error:  # the unpickler raises whatever the bytes provoke
        reason = first_line(error, 120)
        if isinstance(error, pickle.UnpicklingError):  # torch's own advice is to run what is in it
            code = re.search(r"GLOBAL ([\w.]+)", str(error))
            damaged = "it is damaged, or no file that torch.save wrote"
            reason = f"it names code, {code[1][:80]}, beside its tensors" if code else damaged
        raise ValueError(f"{option}={path} cannot be read safely: {reason}") from None


def refuse_zip_bomb(path: Path) -> None:
    """Check that a file takes no more memory than it has bytes; ``torch.save`` compresses nothing.

    Raises:
        ValueError: it does, or is no zip archive.
    """
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no zip archive, as torch.save writes them")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it is compressed, which torch.save never does")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError("it claims to hold more bytes than it has")
    if any(member.file_size > MAX_PICKLE for member in members if member.filename.endswith(".pkl")):
        raise ValueError(f"its list of contents has more than {MAX_PICKLE >> 20} MiB")


def sha256(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: Path) -> dict[str, Tensor]:
    """Read a state dict, plain or within another program's checkpoint; tensors only.

    Raises:
        ValueError: the file does not exist or cannot be read safely.
    """
    content = read_tensors(path, "model.weights", old_format=True)
    if isinstance(content, dict) and "toyfcn" in content:
        raise ValueError(f"model.weights={path} is a checkpoint of toyfcn-train: use ckpt={path}")
    for wrapping in ("model_state_dict", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapping), dict):
            content = content[wrapping]
    if not isinstance(content, dict):
        raise ValueError(f"model.weights={path} holds no weights by name")
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
