"""The FCN-LeNet that steps are timed with, its arithmetic, and ways to compute its loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from toyfcn.config.model import ModelConfig
from toyfcn.models.build import build_network
from toyfcn.models.fcn import FCN
from toyfcn.models.kernels.upsampled_loss import Upsampling, upsampled_cross_entropy
from toyfcn.models.losses import cross_entropy_sums
from toyfcn.models.upsampling import Deconvolution

CLASSES, VOID = 21, 255


def network(config: ModelConfig) -> FCN:
    """Make the FCN of a config."""
    net = build_network(config, CLASSES)
    assert isinstance(net, FCN)
    return net


def gflop_an_image(net: FCN, image: Tensor) -> float:
    """Return the arithmetic of a step: convolutions counted by torch, the deconvolution by hand."""
    with FlopCounterMode(display=False) as counter:
        scores = net.score_map(image)
        torch.autograd.backward(scores.sum())
    up = net.ups[-1]
    assert isinstance(up, Deconvolution)
    by_hand = 6 * scores.shape[-2] * scores.shape[-1] * up.weight.numel()
    counted: int = counter.get_total_flops()
    return counted / len(image) / 1e9 + by_hand / 1e9


def naive_scores(net: FCN, image: Tensor) -> Tensor:
    """Planes throughout, and the scores of the whole image stored."""
    scores = net.heads[0](net.backbone(net.normalize(image))[-1])
    full: Tensor = net.ups[-1](scores)[..., : image.shape[-2], : image.shape[-1]]
    return full


def naive(net: FCN, image: Tensor, truth: Tensor) -> Tensor:
    """What one writes first."""
    return F.cross_entropy(naive_scores(net, image), truth.long(), ignore_index=VOID)


def torchfcn(net: FCN, image: Tensor, truth: Tensor) -> Tensor:
    """Loss and figures as torchfcn describes them: masked log-softmax, a histogram every step."""
    scores, target = naive_scores(net, image), truth.long()
    logs = F.log_softmax(scores, 1).permute(0, 2, 3, 1).contiguous()
    known = target != VOID
    logs = logs[known[..., None].expand_as(logs)].view(-1, CLASSES)
    loss = F.nll_loss(logs, target[known], reduction="sum") / known.sum()
    said = scores.detach().max(1)[1].numpy()
    for one, true in zip(said, target.numpy(), strict=True):
        labelled = (true >= 0) & (true < CLASSES)
        codes = CLASSES * true[labelled].astype(int) + one[labelled]
        torch.bincount(torch.from_numpy(codes), minlength=CLASSES**2)
    return loss


def plain(net: FCN, image: Tensor, truth: Tensor) -> Tensor:
    """Our network with the plain formulation of the loss (trainer.fused=false)."""
    total, weight = cross_entropy_sums(net(image), truth, torch.ones(CLASSES), VOID)
    return total / weight


def fused(net: FCN, image: Tensor, truth: Tensor) -> Tensor:
    """Our network as it is trained."""
    scores, up = net.score_map(image), net.ups[-1]
    assert isinstance(up, Deconvolution)
    total, weight = upsampled_cross_entropy(
        Upsampling(scores, up, truth, torch.ones(CLASSES), VOID)
    )
    return total / weight


LOSSES = {"naive": naive, "torchfcn": torchfcn, "plain": plain, "fused": fused}
