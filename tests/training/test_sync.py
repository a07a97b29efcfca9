"""A training step asks the device for nothing: where it would have to wait for a GPU."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from toyfcn.config.data import VOCConfig
from toyfcn.config.model import ModelConfig
from toyfcn.config.recipe import RecipeConfig
from toyfcn.data.collate import Batch
from toyfcn.data.datamodule import SegmentationData
from toyfcn.evaluation.scorer import Scorer
from toyfcn.models.build import build_network
from toyfcn.models.kernels import upsampled_loss
from toyfcn.models.kernels.by_device import choose_kernels
from toyfcn.models.losses import cross_entropy_sums
from toyfcn.runs import lightning_internals
from toyfcn.training.callbacks import MovingAverage, ThroughputMonitor, panels
from toyfcn.training.nonfinite_loss import FiniteLoss
from toyfcn.training.task import SegmentationTask

ASKS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal")


class Watch(TorchDispatchMode):
    """Notes what a GPU would be waited for: figures and shapes read, plain memory copied."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        places = {x.device.type for x in [*args, result] if isinstance(x, torch.Tensor)}
        copies = func.namespace == "aten" and "copy" in func.__name__ and len(places) > 1
        masks = "aten.index" in str(func) and any(
            x is not None and x.dtype in (torch.bool, torch.uint8)
            for x in (args[1] if isinstance(args[1], list) else ())
        )
        if copies or masks or str(func).startswith(ASKS):
            self.seen.append(str(func))
        return result


def task_of(recipe: RecipeConfig, classes: int = 21, **model: Any) -> SegmentationTask:
    torch.manual_seed(0)
    net = build_network(ModelConfig(width=0.25, **model), classes)
    metadata = {"classes": [str(label) for label in range(classes)], "void": 255}
    return SegmentationTask(net, metadata["classes"], recipe, total_steps=20)


def fit(root: Path, recipe: RecipeConfig, callbacks: list[Callback], **options: Any) -> Any:
    """Train as toyfcn-train does, for six steps; return the weights."""
    config = VOCConfig(root=str(root), crop=[24, 24], batch_size=2, scale=[0.5, 2.0], **options)
    data = SegmentationData.open(config, seed=3)
    config.val_split = config.test_split = None
    trainer = pl.Trainer(
        accelerator="auto",
        devices=1,
        max_steps=6,
        limit_val_batches=0,
        gradient_clip_val=recipe.clip,
        logger=False,
        log_every_n_steps=100,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    task = task_of(recipe)
    trainer.fit(task, datamodule=data)
    return {name: weight.cpu() for name, weight in task.state_dict().items()}


RECIPES = {
    "adamw": RecipeConfig(lr=1e-3, clip=1.0, sample=0.5),
    "muon": RecipeConfig(lr=1e-2, optimizer="muon"),
    "sgd": RecipeConfig(lr=1e-3, optimizer="sgd", reduction="sum"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recipe", ["adamw", "sgd"])  # muon's AdamW counts in CPU tensors anyway
def test_steps_read_no_figure(tiny_voc: Path, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU: whatever reads a number out of a tensor would wait for a GPU."""
    # asked only of scores on a CPU: the test below sees that
    monkeypatch.setattr(upsampled_loss, "known_small", lambda *_: False)
    seen: list[list[str]] = []

    class Steps(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            self.watch = Watch().__enter__()

        def on_train_batch_end(self, *_: Any) -> None:
            self.watch.__exit__(None, None, None)
            seen.append(self.watch.seen)

    fit(tiny_voc, RECIPES[recipe], [ThroughputMonitor(), Steps()])
    assert seen == [[]] * 6


def pretend_gpu(net: torch.nn.Module) -> None:
    """Within FakeTensorMode: as if its weights were on a GPU."""
    for module in net.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                pretended = torch.empty_like(weight, device="cuda")
                module._parameters[name] = torch.nn.Parameter(pretended)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer, device="cuda")


@pytest.mark.parametrize("in_one_pass", [True, False])
def test_the_loss_copies_nothing_to_a_gpu(in_one_pass: bool) -> None:
    """On a GPU that is only pretended: shapes and places are right, there are no numbers."""
    task = task_of(RecipeConfig(lr=1e-3))
    task.fused = in_one_pass
    with FakeTensorMode(allow_non_fake_inputs=True), Watch() as watch:
        pretend_gpu(task.net)
        task.class_weights = torch.ones(21, device="cuda")
        batch: Batch = {
            "image": torch.zeros(2, 3, 40, 50, dtype=torch.uint8, device="cuda"),
            "mask": torch.zeros(2, 40, 50, dtype=torch.uint8, device="cuda"),
            "id": ["a", "b"],
        }
        watch.seen.clear()
        total, _ = task.loss_sums_of(batch)
    assert total.is_cuda and watch.seen == []


@pytest.mark.parametrize("fused", [True, False])
def test_validations_read_no_figure_before_their_end(
    fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upsampled_loss, "known_small", lambda *_: False)  # as above
    scorer = Scorer([str(label) for label in range(21)], 255, fused=fused)
    net = build_network(ModelConfig(width=0.25), 21).eval()
    batch: Batch = {
        "image": torch.zeros(2, 3, 40, 50, dtype=torch.uint8),
        "mask": torch.full((2, 40, 50), 255, dtype=torch.uint8),
        "id": ["a", "b"],
    }
    batch["mask"][:, 10:] = 3
    with torch.no_grad(), Watch() as watch:
        scorer.update(net, [batch])
    assert watch.seen == []
    assert int(scorer.confusion().sum()) == 2 * 30 * 50


@pytest.mark.parametrize("options", [{}, {"fused": False}, {"test_views": 2}])
def test_validations_do_not_wait_for_a_gpu(options: dict[str, Any]) -> None:
    """On a GPU that is only pretended; all that ``reset`` makes is made there first."""
    scorer = Scorer([str(label) for label in range(21)], 255, boundary=True, **options)
    net = build_network(ModelConfig(width=0.25), 21).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), Watch() as watch:
        pretend_gpu(net)
        scorer.reset(torch.device("cuda"))
        batch: Batch = {
            "image": torch.zeros(2, 3, 40, 50, dtype=torch.uint8, device="cuda"),
            "mask": torch.zeros(2, 40, 50, dtype=torch.uint8, device="cuda"),
            "id": ["a", "b"],
        }
        watch.seen.clear()
        scorer.update(net, [batch])
        assert scorer.counts.pairs.is_cuda
    assert watch.seen == []


class Reductions(TorchDispatchMode):
    """Notes how losses are reduced: 0 is not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith("aten.nll_loss"):
            self.seen.append(args[3])
        return func(*args, **(kwargs or {}))


def test_a_gpu_takes_no_loss_in_one_block() -> None:
    """One block of threads sums a flat loss, and all others wait; a GPU that is only pretended."""
    with FakeTensorMode(allow_non_fake_inputs=True), Reductions() as reductions:
        scores = torch.zeros(2, 21, 40, 50, device="cuda", requires_grad=True)
        target = torch.zeros(2, 40, 50, dtype=torch.uint8, device="cuda")
        cross_entropy_sums(scores, target, torch.ones(21, device="cuda"), 255)
    assert reductions.seen == [0]


def test_a_gpu_convolves_in_channels_last() -> None:
    """VGG too, which a CPU convolves in the other layout; on a GPU that is only pretended."""
    net = build_network(ModelConfig(name="fcn_vgg16", stride=32, width=0.1), 21).eval()
    layouts: list[bool] = []
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(
                lambda _, given: layouts.append(
                    given[0].is_contiguous(memory_format=torch.channels_last)
                )
            )
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        pretend_gpu(net)
        net.score_map(torch.zeros(1, 3, 64, 96, dtype=torch.uint8, device="cuda"))
    assert len(layouts) == 16 and all(layouts)


def test_pictures_compile_nothing(tiny_voc: Path) -> None:
    """Photos of all sizes: a compiled backbone would be compiled for each, and then give up."""
    net = build_network(ModelConfig(width=0.25), 21).eval()
    compiled: list[Any] = []
    net.backbone.compile(backend=lambda graph, _: compiled.append(graph) or graph, dynamic=False)
    data = SegmentationData.open(VOCConfig(root=str(tiny_voc)))
    assert len(panels(net, data, data.split_ids("val"))) == 2 and not compiled
    net(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert compiled


def test_a_gpu_has_its_filters_in_channels_last() -> None:
    """Those of VGG, which a CPU has in the other layout."""
    net = build_network(ModelConfig(name="fcn_vgg16", stride=32, width=0.1), 21)
    choose_kernels(net, torch.device("cuda"))
    filters = [m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert filters and all(f.is_contiguous(memory_format=torch.channels_last) for f in filters)


def test_an_average_asks_nothing_and_lies_as_the_weights_do() -> None:
    """torch's own asks in every step for how many it has taken in."""
    task, average = task_of(RecipeConfig(lr=1e-3)), MovingAverage(0.9, torch.device("cpu"))
    trainer: Any = SimpleNamespace(global_step=1)
    average.setup(trainer, task, "fit")
    choose_kernels(task.net, torch.device("cuda"))
    average.on_train_start(trainer, task)
    kept = [(k, w) for k, w in lightning_internals.averaged(average, task) if w.is_floating_point()]
    assert all(k.stride() == w.stride() for k, w in kept)
    average.on_train_batch_end(trainer, task, None, None, 0)
    before = [k.clone() for k, _ in kept]
    torch.nn.init.constant_(task.net.heads[0].bias, 3)
    trainer.global_step = 2
    with Watch() as watch:
        average.on_train_batch_end(trainer, task, None, None, 1)
    assert watch.seen == []
    for (k, w), old in zip(kept, before, strict=True):
        torch.testing.assert_close(k, old.lerp(w, 0.1))
    assert average.state_dict() == {"latest_update_step": 2}


@pytest.mark.parametrize("name", ["fcn_lenet", "unet"])
def test_validations_compile_nothing(name: str) -> None:
    """Nor does folding, which lets the network itself see a photo; all in one size, never more."""
    task = task_of(RecipeConfig(lr=1e-3), name=name, stride=4 if name == "fcn_lenet" else 1)
    compiled: list[Any] = []
    task.net.backbone.compile(
        backend=lambda graph, _: compiled.append(graph) or graph, dynamic=False
    )
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    task.eval()
    with torch.no_grad():
        task.on_validation_epoch_start()
        batch: Batch = {"image": image, "mask": image[:, 0], "id": ["a"]}
        task.validation_step([batch], 0)
    assert task.scorer.confusion().sum() == 32 * 32 and not compiled
    assert not any(name.startswith("scored") for name in task.state_dict())
    task.net(image)
    assert compiled


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recipe", RECIPES)
def test_steps_do_not_wait_for_a_gpu(tiny_voc: Path, tmp_path: Path, recipe: str) -> None:
    class Steps(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            late = 2 <= trainer.global_step < 5  # the first steps make buffers
            torch.cuda.set_sync_debug_mode("error" if late else "default")

    try:
        average = MovingAverage(0.9, torch.device("cuda"))
        callbacks = [Steps(), FiniteLoss(tmp_path), ThroughputMonitor(), average]
        fit(tiny_voc, RECIPES[recipe], callbacks, workers=2)
    finally:
        torch.cuda.set_sync_debug_mode("default")
