"""Training on a GPU in deterministic mode: nothing raises, and a repeat gives the same figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TINY = [
    "trainer=gpu data.train_images=12 data.val_images=3 data.test_images=5 data.size=[48,56]",
    "data.batch_size=4 trainer.max_steps=6 trainer.val_every=3 logger.every=1",
]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "options",
    [
        "model.stride=2 model.upsample=dense recipe=muon recipe.average=0.9",
        "trainer.fused=false recipe.class_weights=sqrt data.colour=0.3",
        "model=fcn_vgg16 model.stride=8 model.width=0.05 trainer.precision=bf16-mixed",
    ],
)
def test_deterministic_training_repeats(tmp_path: Path, options: str) -> None:
    script = Path(sys.executable).with_name("toyfcn-train")
    for name in ("a", "b"):
        arguments = [*" ".join(TINY).split(), *options.split(), f"hydra.run.dir={name}"]
        answer = subprocess.run(
            [script, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr
    first, second = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("a", "b")
    )
    assert first == second
