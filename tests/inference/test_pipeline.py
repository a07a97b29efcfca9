"""What makes toyfcn-predict quick: threads, folded norms, block by block, a quick PNG."""

import io
import operator
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from toyfcn import hardware
from toyfcn.config.model import ModelConfig
from toyfcn.data.png import encode_png, plain_png
from toyfcn.inference import pipeline
from toyfcn.inference.pipeline import Room, in_threads
from toyfcn.models import labeling
from toyfcn.models.build import build_network
from toyfcn.models.ensemble import Ensemble
from toyfcn.models.folding import folded


def network(**options) -> nn.Module:
    """A network whose norms and scores are no longer as they start."""
    torch.manual_seed(0)
    net = build_network(ModelConfig(**options), 5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.1)
    for head in net.heads:
        nn.init.normal_(head.weight)
    return net.eval()


@pytest.mark.parametrize(
    "shape", [(7, 11), (1, 1), (300, 5000), (7, 11, 3), (1, 1, 3), (200, 3000, 3)]
)
def test_png_is_what_pillow_reads(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    coded = encode_png(pixels)
    with Image.open(io.BytesIO(coded)) as image:
        image.verify()
    assert (np.asarray(Image.open(io.BytesIO(coded))) == pixels).all()
    if len(shape) == 2:
        palette = list(range(255, -1, -1)) * 3
        image = Image.open(io.BytesIO(encode_png(pixels, palette)))
        assert image.mode == "P" and image.getpalette() == palette
        assert (np.asarray(image) == pixels).all()
        assert (plain_png(coded)[0] == pixels).all()


@pytest.mark.parametrize(
    "options",
    [
        {"name": "unet", "stride": 1},
        {"name": "fcn_timm", "backbone": "tf_efficientnet_lite0", "stride": 8},
    ],
)
def test_folded_norms_compute_the_same(options: dict[str, str]) -> None:
    net = network(**options)
    photo = torch.randint(0, 256, (1, 3, 75, 97), dtype=torch.uint8)
    with torch.inference_mode():
        before = net(photo)
        made = folded(net)
        assert torch.equal(net(photo), before)  # the network itself stays
        assert (made(photo) - before).abs().max() <= 1e-5 * before.abs().max()
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in made.modules())


def test_a_convolution_that_others_read_too_is_not_folded() -> None:
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            nn.init.constant_(self.norm.running_mean, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            found = self.conv(image.float())
            return found + self.norm(found)

    net = Forked().eval()
    assert folded(net) is net


def test_a_gpu_compares_without_rounding_factors() -> None:
    """TF32's 10 bits make deep networks differ by 1 %: it would never find a folded one equal."""

    class Asks(nn.Identity):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(torch.backends.cudnn.allow_tf32)
            return x

    seen: list[bool] = []
    hardware.set_tf32(True)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), Asks()).eval()
    folded(ToFloat(net))
    assert seen[-2:] == [False, False]
    assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32


class ToFloat(nn.Sequential):
    """Takes photos of bytes."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = super().forward(image.float())
        return found


def test_what_is_changed_in_place_before_a_norm_is_not_folded() -> None:
    """Also while all scores are 0, which a wrong network has too."""
    head = nn.Conv2d(4, 2, 1)
    nn.init.zeros_(head.weight)
    net = ToFloat(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(4), head).eval()
    assert folded(net) is net
    with torch.inference_mode():
        assert folded(net) is net
        other = ToFloat(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
        assert folded(other) is not other


class Keeps(ToFloat):
    """Keeps its last maps, which belong to a graph while it trains."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.last = super().forward(image)
        return self.last


@pytest.mark.parametrize(
    "kind", ["keeps", "weight_norm", "spectral_norm", "parametrizations.weight_norm"]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_a_network_that_cannot_be_copied_or_changed_is_left_as_it_is(kind: str) -> None:
    """Within a training, where a step has left its graph behind: a validation does not fail."""
    conv = nn.Conv2d(3, 4, 1)
    if kind != "keeps":
        operator.attrgetter(kind)(nn.utils)(conv)
    net = (Keeps if kind == "keeps" else ToFloat)(conv, nn.BatchNorm2d(4))
    photo = torch.rand(2, 3, 8, 8)
    net(photo).sum().backward()
    with torch.inference_mode():
        assert folded(net.eval()) is net


@pytest.mark.parametrize("size", [(75, 90), (31, 200), (20, 20), (1, 3)])
def test_blocks_are_the_scores_of_the_whole(size, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labeling, "ROWS", 2000)
    photo = torch.randint(0, 256, (1, 3, 20, 40), dtype=torch.uint8)
    nets = [network(name="fcn_lenet"), network(name="unet", stride=1)]
    for net in (*nets, Ensemble(nets)):
        with torch.inference_mode():
            parts = list(labeling.blocks(net, photo, size))
            whole = net(photo, size)
        assert len(parts) > 2 or size[0] < 60
        error = (torch.cat([part.scores for part in parts], 2) - whole).abs().max()
        assert error <= 1e-5 * whole.abs().max()
        assert [part.top for part in parts] == np.cumsum(
            [0, *(len(p.scores[0, 0]) for p in parts)]
        ).tolist()[:-1]


def test_results_come_in_order_and_few_are_begun_ahead() -> None:
    begun: list[int] = []

    def job(number: int) -> int:
        begun.append(number)
        time.sleep(0.001 * (number % 3))
        return number

    threads = torch.get_num_threads()
    found = in_threads(job, range(100), 3)
    assert next(found) == 0
    time.sleep(0.05)
    assert len(begun) <= 3 * pipeline.AHEAD + 1
    assert list(found) == list(range(1, 100))
    assert torch.get_num_threads() == threads


def test_what_is_computed_at_one_time_is_bounded() -> None:
    room, lock, now, most = Room(2), threading.Lock(), [], []

    def job(pixels: int) -> int:
        with room.taken_by(pixels):
            with lock:
                now.append(pixels)
                most.append((sum(now), len(now)))
            time.sleep(0.002)
            with lock:
                now.remove(pixels)
            return torch.get_num_threads()

    third = pipeline.ROOM // 3
    threads = list(in_threads(job, [third, third, third, third, 100 * pipeline.ROOM] * 4, 8))
    assert all(pixels <= pipeline.ROOM or count == 1 for pixels, count in most)
    assert max(count for _, count in most) > 1
    assert threads == [1, 1, 1, 1, 2] * 4


def test_one_photo_does_not_wait_for_imports_that_it_does_not_need() -> None:
    code = (
        "import sys, toyfcn.inference.predict\n"
        "from toyfcn.config.model import ModelConfig\n"
        "from toyfcn.models.build import build_network\n"
        "build_network(ModelConfig(), 21)\n"
        "slow = {'torchvision', 'pytorch_lightning', 'torchmetrics', 'torch._dynamo', 'sympy'}\n"
        "sys.exit(', '.join(slow & {*sys.modules}) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
