"""Batch norms folded into the convolutions before them: the same function in fewer operations."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from toyfcn import hardware
from toyfcn.models.backbone import channels_of

N = TypeVar("N", bound=nn.Module)
SIDE = 128  # pixels of the photo on which is seen which layers follow each other
TOLERANCE = 1e-3  # of the largest score on it


@torch.no_grad()
def folded(net: N) -> N:
    """Return a copy of a network in evaluation mode, with its batch norms folded where they can be.

    Scores differ in their last bits alone (about 1e-6 of the largest one). The network itself is
    returned where the copy turns out to compute anything else, where it cannot be copied, or where
    there is nothing to fold.
    """
    # drawn without touching the generator of the caller
    generator = torch.Generator().manual_seed(0)
    shape = (1, channels_of(net), SIDE, SIDE)
    photo = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    photo = photo.to(next(net.parameters()).device)
    try:
        made = copy.deepcopy(net)
    except Exception:  # whatever a network of others keeps: its last maps with their gradients
        return net
    pairs = followed(made, photo)
    names = {module: name for name, module in made.named_modules()}
    for conv, norm in pairs:
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None and var is not None
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean, var, norm.eps, norm.weight, norm.bias
        )
        # what timm's norms do besides: an activation
        made.set_submodule(names[norm], nn.Sequential(*norm.children()))
    if not pairs:
        return net
    with hardware.without_tf32():  # whose 10 bits make deep networks differ by a percent
        before, after = net(photo), made(photo)
    close = (before - after).abs().max() <= TOLERANCE * before.abs().max()
    return made if close else net


def followed(net: nn.Module, photo: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return each convolution whose output a batch norm takes, with it, as a photo shows them.

    Those whose weight is computed anew in each pass (weight or spectral norm) are left out.
    """
    # each lives on, so that none is mistaken; its version tells whether it was changed in place
    outputs: list[tuple[Tensor, int, nn.Conv2d]] = []
    pairs: dict[nn.Conv2d, nn.BatchNorm2d] = {}

    def note_output(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        outputs.append((output, output._version, module))

    def note_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if not outputs or module.running_mean is None:
            return
        output, version, conv = outputs[-1]
        if output is inputs[0] and output._version == version:
            pairs[conv] = module

    hooks = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(note_output))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(note_input))
    try:
        with torch.inference_mode(False), torch.no_grad():  # inference tensors have no versions
            net(photo)
    finally:
        for hook in hooks:
            hook.remove()
    convs, norms = [conv for *_, conv in outputs], list(pairs.values())
    return [
        (conv, norm)
        for conv, norm in pairs.items()
        if convs.count(conv) == 1 == norms.count(norm)
        and "weight" in dict(conv.named_parameters(recurse=False))
    ]
