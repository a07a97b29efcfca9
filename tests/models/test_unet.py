"""The U-Net: parameters, sizes, cost, learning, and restoring from a checkpoint."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from toyfcn.commands import eval, export, predict, train
from toyfcn.config.model import ModelConfig
from toyfcn.config.recipe import RecipeConfig
from toyfcn.data.shapes.scene import CLASSES, scene
from toyfcn.models.build import build_network
from toyfcn.models.summary import layers
from toyfcn.runs import checkpoint
from toyfcn.training.task import SegmentationTask

UNET = {"name": "unet", "stride": 1}


def net(classes: int = 5, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_network(ModelConfig(**UNET, **options), classes)
    torch.nn.init.normal_(model.heads[0].weight)
    return model.eval()


def test_parameters_and_cost_are_those_of_the_table() -> None:
    model = net(21)
    assert sum(p.numel() for p in model.parameters()) == 189_251
    meta, size = model.to("meta"), (75, 101)
    rows = layers(meta, size)
    assert sum(row.parameters for row in rows) == 189_251
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        meta(torch.zeros(1, 3, *size, device="meta"))
    assert 2 * sum(row.cost for row in rows) == counter.get_total_flops()
    assert (rows[-1].grid.stride, rows[-1].grid.start, rows[-1].grid.field) == (1, 0, 96)


def test_maps_and_width_are_the_channels_of_the_levels() -> None:
    five = net(maps=[4, 6, 8, 10, 12], width=0.5)  # the paper's number of levels
    shapes = [tuple(p.shape[:2]) for p in five.backbone.downs.parameters() if p.ndim == 4]
    assert shapes[::2] == [(2, 3), (3, 2), (4, 3), (5, 4), (6, 5)]
    assert tuple(five.backbone.ups[0].weight.shape) == (6, 5, 2, 2)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_any_size_comes_out_as_it_went_in(norm: str) -> None:
    model = net(norm=norm, width=0.3)
    with torch.no_grad():
        for height, width in [(1, 1), (1, 97), (97, 1), (2, 3), (9, 8), (31, 33), (66, 49)]:
            photo = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
            scores = model(photo)
            assert scores.shape == (1, 5, height, width) and scores.isfinite().all()
            assert model(photo.float()).equal(scores)
        bigger = F.interpolate(scores, size=(50, 61), mode="bilinear", align_corners=False)
        torch.testing.assert_close(model(photo, (50, 61)), bigger)


def test_scores_move_with_the_photo() -> None:
    """A photo shifted by the coarsest stride has the same scores, shifted, away from borders."""
    model, photo = net(), torch.rand(1, 3, 176, 176) * 255
    with torch.no_grad():
        whole, shifted = model(photo), model(photo[..., 8:, 8:])
    inner = slice(64, 112)  # which do not see a border: 96 pixels, up to 56 to one side
    moved = shifted[..., 56:104, 56:104]
    torch.testing.assert_close(whole[..., inner, inner], moved, rtol=1e-4, atol=1e-3)


def test_muon_optimizes_all_filters_of_the_backbone() -> None:
    metadata = {"classes": ["a", "b"], "void": 255}
    model = build_network(ModelConfig(**UNET), 2)
    task = SegmentationTask(model, metadata["classes"], RecipeConfig(optimizer="muon"))
    (optimizer,), _ = task.configure_optimizers()
    optimized = sum(
        p.numel() for g in optimizer.param_groups if g["orthogonal"] for p in g["params"]
    )
    assert optimized == sum(p.numel() for p in model.backbone.parameters() if p.ndim == 4)


@pytest.mark.usefixtures("one_thread")
def test_it_overfits_two_photos() -> None:
    drawn = [map(np.array, scene(np.random.default_rng(seed), (48, 56))) for seed in range(2)]
    photos, masks = map(torch.from_numpy, map(np.stack, zip(*drawn, strict=True)))
    photos = photos.permute(0, 3, 1, 2)
    torch.manual_seed(0)
    model = build_network(ModelConfig(**UNET, width=0.5), len(CLASSES)).train()
    optimizer = torch.optim.AdamW(model.parameters(), 0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(photos), masks.long(), ignore_index=255)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(len(CLASSES)), abs=1e-5)
    known = masks != 255
    right = (model(photos).argmax(1) == masks)[known].float().mean().item()
    assert right > 0.97


TINY = """
    data.train_images=6 data.val_images=2 data.test_images=2 data.size=[48,57] data.batch_size=2
    model=unet model.width=0.3 trainer.max_steps=3 trainer.val_every=3
    """
BEST = "run/checkpoints/best.ckpt"
Command = Callable[[Callable[[], None], str], None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> Command:
    """Runs a command, after a tiny training in the folder run."""
    monkeypatch.chdir(tmp_path)

    def command(main: Callable[[], None], words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["toyfcn", *words.split()])
        main()

    command(train.main, f"{TINY} recipe=muon hydra.run.dir=run")
    return command


def test_it_is_restored_from_its_checkpoint(run: Command) -> None:
    found = json.loads(Path("run/metrics.json").read_text())
    run(eval.main, f"ckpt={BEST} split=test hydra.run.dir=scored")
    assert json.loads(Path("scored/metrics.json").read_text())["test"] == found["test"]
    run(train.main, f"{TINY} ckpt={BEST} recipe.freeze=trunk hydra.run.dir=again")
    before, after = (
        dict(checkpoint.load(f"{folder}/checkpoints/best.ckpt").net.backbone.named_parameters())
        for folder in ("run", "again")
    )
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    run(predict.main, f"ckpt={BEST} source=data/shapes/JPEGImages out=masks")
    assert len(list(Path("masks").glob("*_overlay.png"))) == 10


@pytest.mark.slow
def test_onnx_computes_the_same(run: Command) -> None:
    pytest.importorskip("onnxruntime", reason="needs toyfcn[export]")
    run(export.main, f"ckpt={BEST}")  # which compares three sizes with torch
    assert Path("run/checkpoints/best.onnx").is_file()


@pytest.mark.parametrize("option", [{"maps": [8]}, {"pool": "avg"}, {"geometry": "paper"}])
def test_options_of_other_networks_are_refused(option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=rf"model\.{next(iter(option))}=.*(unet|U-Net)"):
        ModelConfig(**UNET, **option)
    with pytest.raises(ValueError, match=r"model\.stride=4 must be one of 1"):
        ModelConfig(name="unet")
