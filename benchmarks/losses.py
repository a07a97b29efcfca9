"""The FCN-LeNet whose steps are timed, its arithmetic, and variants of its loss."""

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
    """Return the FCN of a config."""
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
    """Return scores at the image's size, in contiguous layout throughout."""
    scores = net.heads[0](net.backbone(net.normalize(image))[-1])
    full: Tensor = net.ups[-1](scores)[..., : image.shape[-2], : image.shape[-1]]
    return full


def naive(net: FCN, image: Tensor, target: Tensor) -> Tensor:
    """Return the loss of the straightforward program."""
    return F.cross_entropy(naive_scores(net, image), target.long(), ignore_index=VOID)


def torchfcn(net: FCN, image: Tensor, target: Tensor) -> Tensor:
    """Return the loss as torchfcn computes it: masked log-softmax, and a histogram every step."""
    scores, target = naive_scores(net, image), target.long()
    logs = F.log_softmax(scores, 1).permute(0, 2, 3, 1).contiguous()
    known = target != VOID
    logs = logs[known[..., None].expand_as(logs)].view(-1, CLASSES)
    loss = F.nll_loss(logs, target[known], reduction="sum") / known.sum()
    predicted = scores.detach().max(1)[1].numpy()
    for one, labels in zip(predicted, target.numpy(), strict=True):
        labelled = (labels >= 0) & (labels < CLASSES)
        codes = CLASSES * labels[labelled].astype(int) + one[labelled]
        torch.bincount(torch.from_numpy(codes), minlength=CLASSES**2)
    return loss


def plain(net: FCN, image: Tensor, target: Tensor) -> Tensor:
    """Return our network's loss in the plain formulation (trainer.fused=false)."""
    total, weight = cross_entropy_sums(net(image), target, torch.ones(CLASSES), VOID)
    return total / weight


def fused(net: FCN, image: Tensor, target: Tensor) -> Tensor:
    """Return our network's loss as in training."""
    scores, up = net.score_map(image), net.ups[-1]
    assert isinstance(up, Deconvolution)
    total, weight = upsampled_cross_entropy(
        Upsampling(scores, up, target, torch.ones(CLASSES), VOID)
    )
    return total / weight


LOSSES = {"naive": naive, "torchfcn": torchfcn, "plain": plain, "fused": fused}
