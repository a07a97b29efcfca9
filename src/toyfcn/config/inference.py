"""What the commands take that score, predict, compare and export: see ``commands.py``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from toyfcn.config.data import KINDS
from toyfcn.config.data_options import DataConfig
from toyfcn.config.model import ModelConfig
from toyfcn.config.option import Checked, as_list, option
from toyfcn.config.target import TRUST
from toyfcn.config.trainer import ScoringConfig


def _refuse_overlap(config: EvalConfig | PredictConfig) -> None:
    """Check that tiles overlap by less than half of them, and that there are any.

    Raises:
        ValueError: they do not.
    """
    if config.tile is None and config.overlap != type(config).overlap:
        raise ValueError("overlap= has an effect with tile= alone: set it, or leave overlap= out")
    if config.tile is not None and 2 * config.overlap > config.tile:
        raise ValueError(f"overlap={config.overlap} is more than half of tile={config.tile}")


def _none_given(*configs: type[DataConfig]) -> type:
    """Make a config with every option of the given ones, none of which has a value yet."""
    types = {name: kind for config in configs for name, kind in get_type_hints(config).items()}
    return dataclasses.make_dataclass(
        "AsTrainedConfig", [(name, kind, "???") for name, kind in types.items()]
    )


AsTrainedConfig = _none_given(*KINDS.values())  # toyfcn-eval: the others are the checkpoint's

TILE = (
    "pixels a side of the tiles that large photos are scored in, after model.short_side; null: "
    "whole photos"
)
OVERLAP = (
    "pixels that tiles share with their neighbors; seamless from twice the receptive field on "
    "(see toyfcn-model), and nearly so far below"
)


@dataclass
class EvalConfig(Checked):
    """Score a checkpoint on any split; results are in outputs/eval/.

    toyfcn-eval ckpt=RUN/checkpoints/best.ckpt                # on its own validation split
    toyfcn-eval ckpt=[A/checkpoints/best.ckpt,B/checkpoints/best.ckpt]  # averaged
    toyfcn-eval ckpt=RUN/checkpoints/best.ckpt data=voc2012 data.root=FOLDER
    """

    ckpt: Any = option(
        None,
        "checkpoint to score, or a list whose probabilities are averaged (required)",
        path=True,
    )
    trust: list[str] = option([], TRUST)
    split: str = option("val", "list of the images to score")
    resamples: int = option(
        2000, "draws of the bootstrap behind the 95 % intervals of the scores", low=100
    )
    tile: int | None = option(None, TILE, low=16)
    overlap: int = option(64, OVERLAP, low=0)
    data: Any = None  # conf/eval.yaml chooses data=as_trained
    trainer: ScoringConfig = field(default_factory=ScoringConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_overlap(self)


@dataclass
class CompareConfig(Checked):
    """Compare networks on the same photos by a paired bootstrap; results are in outputs/compare/.

    toyfcn-compare RUN_A RUN_B                                # the others against the first
    toyfcn-compare outputs/sweeps/A outputs/sweeps/B          # over seeds and photos
    toyfcn-compare old/best.ckpt new/best.ckpt split=test fail_below=0.01
    """

    of: Any = option(
        None,
        "two or more runs, checkpoints, sweeps over seeds, or folders with images.npz; the others "
        "are compared with the first (required)",
        path=True,
    )
    split: str | None = option(
        None, "list to compare on; null: val, or the one that all were scored on"
    )
    resamples: int = option(2000, "draws of the bootstrap", low=100)
    fail_below: float | None = option(
        None,
        "exit code 1 where the mean IU of one is surely, by its 95 % interval, worse than the "
        "first's by more than this; null: never",
        low=0,
    )
    trust: list[str] = option([], TRUST)
    photos: int = option(
        10, "photos in the sheet of those that differ most; 0: no sheet", low=0, high=64
    )
    data: Any = None  # of checkpoints; conf/compare.yaml chooses data=as_trained
    trainer: ScoringConfig = field(default_factory=ScoringConfig)


@dataclass
class PredictConfig(Checked):
    """Palette masks and overlays of any photos, from a checkpoint alone.

    toyfcn-predict ckpt=best.ckpt source=photos/ out=masks
    toyfcn-predict ckpt=best.ckpt 'source=["photos/**/*.png",one.jpg]' scores=true
    toyfcn-predict ckpt=best.ckpt format=voc_server data=voc2012 split=test out=submission
    """

    ckpt: Any = option(
        None,
        "checkpoint to predict with, or a list whose probabilities are averaged (required)",
        path=True,
    )
    source: Any = option(
        None,
        "photo or video, folder of such or glob, or a list of these; -: names from the standard "
        "input. Folders within are kept in out=",
        path=True,
    )
    trust: list[str] = option([], TRUST)
    out: str = option("outputs/predictions", "folder for the masks and overlays", path=True)
    format: str = option(
        "pictures",
        "pictures: masks and overlays of source; voc_server: what PASCAL's evaluation server takes",
        choices=("pictures", "voc_server"),
    )
    scores: bool = option(
        False, "write NAME_scores.npz too: float16 (classes, height, width), before the softmax"
    )
    confidence: bool = option(
        False, "write NAME_confidence.png too: probability of each label, 255 is 1"
    )
    polygons: str | None = option(
        None,
        "write polygons too; coco: annotations.json of all photos, labelme: NAME.json of each",
        choices=("coco", "labelme"),
    )
    shares: bool = option(False, "write shares.csv too: share of each class in each photo's pixels")
    resume: bool = option(False, "leave photos alone whose results are there, newer than they are")
    test_views: int = option(
        1, "versions of a photo that are averaged, see trainer.test_views", choices=(1, 2, 8)
    )
    tile: int | None = option(None, TILE, low=16)
    overlap: int = option(64, OVERLAP, low=0)
    split: str = option("test", "voc_server: list of the photos, which need no masks")
    data: Any = None  # voc_server: where the photos lie; conf/predict.yaml says as_trained
    device: str = option("auto", "where to run", choices=("auto", "cpu", "gpu"))

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_overlap(self)
        if not all(isinstance(item, str | None) for item in as_list(self.source)):
            raise ValueError(f"source={self.source} is no path, nor a list of paths")
        further = ("scores", "source", "confidence", "polygons", "shares")
        given = next((name for name in further if getattr(self, name)), None)
        if self.format == "voc_server" and given:
            raise ValueError(f"{given}= has no place beside format=voc_server, which takes split=")
        if self.format == "pictures" and (self.data or self.split != PredictConfig.split):
            given = "data" if self.data else "split"
            raise ValueError(f"{given}= has an effect with format=voc_server alone: set source=")


@dataclass
class DemoConfig(Checked):
    """A page in the browser to try checkpoints: a photo or the camera, the classes found in it.

    toyfcn-demo ckpt=RUN/checkpoints/best.ckpt                # at http://127.0.0.1:7860
    toyfcn-demo ckpt=old/best.ckpt compare=new/best.ckpt      # side by side
    toyfcn-demo ckpt=best.ckpt host=0.0.0.0 port=8000         # for others in the network, too
    """

    ckpt: Any = option(
        None,
        "checkpoint to try, or a list whose probabilities are averaged (required)",
        path=True,
    )
    compare: Any = option(
        None, "checkpoint, or list of them, whose results stand beside those of ckpt", path=True
    )
    trust: list[str] = option([], TRUST)
    host: str = option(
        "127.0.0.1", "address to listen at; 0.0.0.0: whoever reaches this machine can use the page"
    )
    port: int = option(7860, "port to listen at", low=1, high=65535)
    max_megapixels: int = option(
        25, "millions of pixels of the largest photo that is taken", low=1, high=100
    )
    device: str = option("auto", "where to run", choices=("auto", "cpu", "gpu"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compare is not None and as_list(self.compare) == as_list(self.ckpt):
            raise ValueError(f"compare={self.compare} is what ckpt= names: choose another")


SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}  # of exported files


@dataclass
class ExportConfig(Checked):
    """A checkpoint's network in a file of its own, checked against PyTorch.

    toyfcn-export ckpt=RUN/checkpoints/best.ckpt              # best.onnx beside it
    toyfcn-export ckpt=best.ckpt output=labels
    toyfcn-export ckpt=best.ckpt quantize=int8 benchmark=true
    """

    ckpt: str | None = option(None, "checkpoint to export (required)", path=True)
    trust: list[str] = option([], TRUST)
    out: str | None = option(
        None, "file to write, or its name without suffix; null: beside the checkpoint", path=True
    )
    output: str = option(
        "scores", "scores of each class, or labels of the best ones", choices=("scores", "labels")
    )
    format: Any = option(
        "onnx",
        "onnx; openvino: an .xml with its .bin, for Intel's and other CPUs; torch: a .pt2 of "
        "torch.export, which PyTorch runs without toyfcn; or a list of these",
        choices=tuple(SUFFIXES),
    )
    quantize: str | None = option(
        None,
        "int8: write NAME_int8.onnx too, in integers of 8 bits, calibrated on training photos; "
        "needs format=onnx",
        choices=("int8",),
    )
    calibration_photos: int = option(
        100, "training photos that quantize=int8 takes its ranges from", low=1
    )
    benchmark: bool = option(
        False, "print size, images/s and mean IU on val of each file beside PyTorch's"
    )
    threads: int = option(2, "CPU threads of the benchmark", low=1)
    data: Any = None  # of quantize= and benchmark=; conf/export.yaml chooses data=as_trained

    def __post_init__(self) -> None:
        super().__post_init__()
        formats = as_list(self.format)
        if not formats or len(set(formats)) < len(formats):
            raise ValueError(f"format={formats} names no format, or one twice")
        if self.quantize and "onnx" not in formats:
            raise ValueError(
                f"quantize={self.quantize} needs format=onnx, or a list with it: the other formats "
                "are written in float32 alone"
            )
        if not self.quantize and self.calibration_photos != ExportConfig.calibration_photos:
            raise ValueError("calibration_photos= has an effect with quantize=int8 alone")
        if not self.benchmark and self.threads != ExportConfig.threads:
            raise ValueError("threads= has an effect with benchmark=true alone")
        if self.data and not (self.quantize or self.benchmark):
            raise ValueError("data= has an effect with quantize=int8 or benchmark=true alone")
        suffixes = [SUFFIXES[name] for name in formats]
        given = Path(self.out or "").suffix
        if given and suffixes != [given]:
            raise ValueError(
                f"out={self.out}: format={self.format} writes {' and '.join(suffixes)}; a name "
                "without suffix gets it"
            )


@dataclass
class DescribeConfig(Checked):
    """Print a network layer by layer: sizes, strides, receptive fields, weights, arithmetic.

    toyfcn-model model=fcn_lenet model.stride=2
    toyfcn-model model=fcn_vgg16 model.stride=8 size=[500,500]
    toyfcn-model model=fcn_timm model.backbone=resnet18 model.stride=16
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    classes: int = option(21, "classes to score, background included", low=2, high=255)
    size: list[int] = option([375, 500], "[height, width] of the photo in pixels", low=1, length=2)
    channels: int = option(3, "channels of the photo: see data.channels", low=1, high=256)
    batch: int = option(8, "photos in the training step whose memory is estimated", low=1)
