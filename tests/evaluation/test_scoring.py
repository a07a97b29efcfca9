"""Scoring without Lightning: the figures that a Lightning validation finds, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from toyfcn.config.data import VOCConfig
from toyfcn.config.model import ModelConfig
from toyfcn.config.recipe import RecipeConfig
from toyfcn.config.trainer import PRECISIONS, Precision
from toyfcn.data.datamodule import SegmentationData, open_source
from toyfcn.evaluation.scorer import Scorer
from toyfcn.evaluation.scoring import score
from toyfcn.models.build import Network, build_network
from toyfcn.models.kernels import compiled
from toyfcn.training.task import SegmentationTask


@pytest.fixture
def data(tiny_voc: Path) -> SegmentationData:
    config = VOCConfig(root=str(tiny_voc), batch_size=2, workers=0)
    return SegmentationData(open_source(config), config, short_side=None)


def network(**options: Any) -> Network:
    """A network with norms, whose scores are not all alike."""
    torch.manual_seed(0)
    net = build_network(ModelConfig(width=0.25, norm="batch", **options), 21)
    for head in net.heads:
        torch.nn.init.normal_(head.weight)
    return net


def validated(
    net: Network, data: SegmentationData, precision: Precision, class_weights: Any = None
) -> dict[str, Any]:
    """What Lightning's own loop finds."""
    metadata = {"classes": list(data.source.classes), "void": data.source.void}
    task = SegmentationTask(net, metadata["classes"], RecipeConfig(), class_weights=class_weights)
    task.scorer = Scorer(data.source.classes, data.source.void, boundary=True)
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.validate(task, data.scoring_loader("trainval"), verbose=False)
    return task.results


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_score_equals_a_lightning_validation(data: SegmentationData, precision: Precision) -> None:
    source, net = data.source, network().train()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    figures, counts = score(
        net, source.classes, source.void, data.scoring_loader("trainval"), precision=precision
    )
    after = net.state_dict()
    assert net.training and next(net.parameters()).dtype == torch.float32
    assert all(torch.equal(after[name], before[name]) for name in before)
    labeled = sum(int((source.mask(name) != 255).sum()) for name in source.ids("trainval"))
    assert counts.matrices.sum() == labeled and figures["images"] == 6
    assert figures.pop("intervals")["miou"][0] <= figures["miou"]
    assert figures == validated(net, data, precision)


def test_the_validation_loss_has_no_class_weights(data: SegmentationData) -> None:
    """The same definition in history.csv and TensorBoard as in metrics.json."""
    weights = torch.linspace(0.25, 4, 21)
    plain = validated(network(), data, "32-true")
    assert validated(network(), data, "32-true", weights)["loss"] == plain["loss"]


@pytest.mark.parametrize("stride", [2, 4])
def test_fused_scoring_equals_the_plain_one(data: SegmentationData, stride: int) -> None:
    net = network(stride=stride).eval()
    found = []
    for fused in (True, False):
        scorer = Scorer(data.source.classes, data.source.void, fused=fused)
        with torch.no_grad():
            for batches in data.scoring_loader("val"):
                scorer.update(net, batches)
        found.append(scorer.compute())
    assert found[0].pop("loss") == pytest.approx(found[1].pop("loss"), rel=1e-5)
    assert found[0] == found[1]


@pytest.mark.skipif(compiled.library() is None, reason="no C compiler")
@pytest.mark.parametrize("test_views", [1, 2])
@pytest.mark.parametrize("short_side", [None, 24])
@pytest.mark.parametrize(
    "options",
    [
        {"name": "fcn_lenet", "stride": 2},
        {"name": "fcn_lenet", "upsample": "dense"},
        {"name": "fcn_vgg16", "stride": 8, "width": 0.05},
        {"name": "fcn_timm", "backbone": "test_efficientnet", "stride": 8},
        {"name": "unet", "stride": 1},
    ],
)
def test_the_compiled_pass_counts_what_pytorch_does(
    options: dict[str, Any],
    short_side: int | None,
    test_views: int,
    data: SegmentationData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the network: equal labels, so equal counts of every photo; a loss to last digits."""
    torch.manual_seed(0)
    net = build_network(ModelConfig(**options), 21).eval()
    for head in net.heads:
        torch.nn.init.normal_(head.weight)
    data.short_side = short_side
    found = []
    for library in (compiled.library(), None):
        monkeypatch.setattr(compiled, "library", lambda made=library: made)
        loader = data.scoring_loader("trainval")
        found.append(score(net, data.source.classes, 255, loader, test_views=test_views))
    (ours, counts), (plain, expected) = found
    assert (counts.matrices == expected.matrices).all()
    assert (counts.boundary == expected.boundary).all()
    assert counts.losses == pytest.approx(expected.losses, rel=1e-5)
    losses = ours.pop("loss"), plain.pop("loss")
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and ours == plain


def test_deterministic_algorithms_are_as_before(data: SegmentationData) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        score(network(), data.source.classes, data.source.void, data.scoring_loader("val"))
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
