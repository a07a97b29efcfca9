"""The loss, the learning-rate schedule and the class weights, against numpy and hand-computed."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from toyfcn.config.data import VOCConfig
from toyfcn.config.model import ModelConfig
from toyfcn.config.recipe import RecipeConfig
from toyfcn.data import class_weights as statistics
from toyfcn.data.class_weights import class_weights, count_pixels
from toyfcn.data.datamodule import SegmentationData, open_source
from toyfcn.data.voc import find_voc, voc_source
from toyfcn.models.build import build_network
from toyfcn.models.losses import cross_entropy_sums
from toyfcn.training.callbacks import LastValidation
from toyfcn.training.lr_schedule import lr_factor
from toyfcn.training.task import SegmentationTask


def test_loss_equals_numpy_with_void_and_weights():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 5, 6, 7)).astype(np.float32) * 3
    truth = rng.integers(0, 5, (2, 6, 7)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.2] = 255
    weight = np.array([0.25, 1, 4, 0.5, 2], np.float32)

    total, weights = 0.0, 0.0
    for b, i, j in zip(*np.nonzero(truth != 255), strict=True):
        pixel, label = scores[b, :, i, j].astype(np.float64), truth[b, i, j]
        total += weight[label] * (np.log(np.exp(pixel).sum()) - pixel[label])
        weights += weight[label]

    got = cross_entropy_sums(*map(torch.from_numpy, (scores, truth, weight)), 255)
    assert got[0].item() == pytest.approx(total, rel=1e-5)
    assert got[1].item() == pytest.approx(weights, rel=1e-6)


def test_void_may_be_a_label_below_the_classes():
    scores, truth = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 0]]], dtype=torch.uint8)
    total, weight = cross_entropy_sums(scores, truth, torch.ones(3), 0)
    logs = scores.log_softmax(1)
    assert weight.item() == 2
    assert total.item() == pytest.approx(-(logs[0, 1, 0, 1] + logs[0, 2, 1, 0]).item(), rel=1e-5)


def test_nothing_but_void_costs_nothing():
    scores = torch.randn(2, 3, 4, 4, requires_grad=True)
    truth = torch.full((2, 4, 4), 255, dtype=torch.uint8)
    total, weight = cross_entropy_sums(scores, truth, torch.ones(3), 255)
    assert (total.item(), weight.item()) == (0, 0)
    (total / weight.clamp(min=1e-6)).backward()
    assert scores.grad is not None
    assert scores.grad.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_loss_of_every_precision(dtype):
    """trainer.precision: scores in half come with float weights, double with double ones."""
    scores = torch.randn(1, 3, 4, 4).to(dtype)
    weight = torch.ones(3, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    total, count = cross_entropy_sums(scores, torch.ones(1, 4, 4, dtype=torch.uint8), weight, 255)
    expected = -scores.double().log_softmax(1)[:, 1].sum().item()
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert count.item() == 16


def test_lr_rises_linearly_then_falls_as_a_cosine():
    factors = [lr_factor(step, 100, "onecycle", 0.1) for step in range(101)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1
    assert factors[55] == pytest.approx(0.5)
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in itertools.pairwise(factors[10:]))


@pytest.mark.parametrize("total", [1, 2, 1000])
@pytest.mark.parametrize("warmup", [0, 0.3, 1])
def test_lr_stays_within_its_peak(total, warmup):
    factors = [lr_factor(step, total, "onecycle", warmup) for step in range(total + 2)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == 1
    assert factors[0] > 0


def test_constant_lr():
    assert {lr_factor(step, 10, "constant", 0.5) for step in range(20)} == {1.0}


def test_class_weights_by_hand():
    counts = torch.tensor([6400, 400, 100, 25, 0, 1])  # the median of the seen ones is 100
    weights = {kind: class_weights(counts, kind).tolist() for kind in ("none", "median", "sqrt")}
    assert weights["none"] == [1] * 6
    assert weights["median"] == [0.25, 0.25, 1, 4, 1, 4]
    assert weights["sqrt"] == [0.25, 0.5, 1, 2, 1, 4]


def test_class_weights_of_no_pixels_are_ones():
    assert class_weights(torch.zeros(3, dtype=torch.int64), "sqrt").tolist() == [1, 1, 1]


def test_count_pixels(tiny_voc):
    source = voc_source(find_voc(tiny_voc, 2007))
    counts = count_pixels(source, source.ids("train")).tolist()
    background = 2 * (48 * 32 + 32 * 40) - 4 * (14 * 16) - 4
    assert counts == [background, *[12 * 14] * 4, *[0] * 15, 4]


def test_counts_are_cached_until_the_source_changes(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = voc_source(find_voc(tiny_voc, 2007))
    ids = source.ids("train")
    first = statistics.cached_counts(source, ids, tmp_path / "cache")
    assert torch.equal(first, count_pixels(source, ids))
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "count_pixels", lambda *_: pytest.fail("counted again"))
        assert torch.equal(statistics.cached_counts(source, ids, tmp_path / "cache"), first)
    os.utime(source.mask_path(ids[0]), (1, 1))
    monkeypatch.setattr(statistics, "count_pixels", lambda *_: first + 1)
    assert torch.equal(statistics.cached_counts(source, ids, tmp_path / "cache"), first + 1)


def test_listed_weights() -> None:
    assert statistics.listed_weights([0.5, 2], ("background", "cat")).tolist() == [0.5, 2.0]
    with pytest.raises(ValueError, match="lists 1 numbers, but there are 2 classes"):
        statistics.listed_weights([1], ("background", "cat"))
    for wrong in ("inverse", [1, -1], ["a"], []):
        with pytest.raises(ValueError, match=r"recipe\.class_weights="):
            RecipeConfig(class_weights=wrong)


@pytest.mark.parametrize("upsample", ["channel", "dense"])
def test_fused_task_equals_the_plain_one(upsample: str) -> None:
    metadata = {"classes": [str(label) for label in range(5)], "void": 255}
    generator = torch.Generator().manual_seed(0)
    batch = {
        "image": torch.randint(0, 256, (2, 3, 30, 41), dtype=torch.uint8, generator=generator),
        "mask": torch.randint(0, 5, (2, 30, 41), dtype=torch.uint8, generator=generator),
        "id": ["a", "b"],
    }
    found = []
    for fused in (False, True):
        torch.manual_seed(0)
        net = build_network(ModelConfig(stride=2, upsample=upsample), 5).double()
        for head in net.heads:
            torch.nn.init.normal_(head.weight)
        task = SegmentationTask(
            net, metadata["classes"], RecipeConfig(), class_weights=torch.rand(5) + 0.5, fused=fused
        )
        total, weight = task.loss_sums_of(batch)
        total.backward()
        found.append([total.detach(), weight, *(p.grad for p in net.parameters())])
    for plain, quick in zip(*found, strict=True):
        assert (quick - plain).abs().max() <= 1e-9 * plain.abs().max()


def test_a_share_of_the_loss_terms() -> None:
    metadata = {"classes": ["a", "b"], "void": 255}
    net = build_network(ModelConfig(), 2)
    batch = {
        "image": torch.zeros(2, 3, 40, 50, dtype=torch.uint8),
        "mask": torch.zeros(2, 40, 50, dtype=torch.uint8),
        "id": ["p", "q"],
    }
    torch.manual_seed(0)
    whole, weight = SegmentationTask(net, metadata["classes"], RecipeConfig()).loss_sums_of(batch)
    quarter, fewer = SegmentationTask(
        net, metadata["classes"], RecipeConfig(sample=0.25)
    ).loss_sums_of(batch)
    assert weight == 4000
    assert 900 < fewer < 1100  # 1000 ± 27
    assert torch.isclose(quarter / fewer, whole / weight)  # scores are zero: every term is ln 2


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (7, 3, [3, 6, 7]),
        (6, 3, [3, 6]),
        (5, 100, [5]),
        (5, 5, [5]),
        (3, 1, [1, 2, 3]),
    ],
)
def test_validations_come_every_so_many_steps_and_at_the_end(
    tiny_voc: Path, steps: int, every: int, expected: list[int]
) -> None:
    seen: list[int] = []

    class Validations(Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.append(trainer.global_step)

    config = VOCConfig(root=str(tiny_voc), test_split=None, crop=[24, 24], batch_size=2)
    data = SegmentationData(open_source(config), config)
    metadata = {"classes": list(data.source.classes), "void": 255}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        val_check_interval=every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        callbacks=[Validations(), LastValidation()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    net = build_network(ModelConfig(width=0.25), 21)
    trainer.fit(
        SegmentationTask(net, metadata["classes"], RecipeConfig(), total_steps=steps),
        datamodule=data,
    )
    assert seen == expected and trainer.global_step == steps
