"""Test-time augmentation: the mean of an image's predictions, mirrored and turned by quarters."""

from __future__ import annotations

from torch import Tensor, nn

TRANSFORMS = {  # quarter turns, and whether mirrored before
    1: [(0, False)],
    2: [(0, False), (0, True)],
    8: [(quarters, mirrored) for mirrored in (False, True) for quarters in range(4)],
}


def augmented_probabilities(
    net: nn.Module, image: Tensor, size: tuple[int, int], count: int
) -> Tensor:
    """Return the mean class probabilities (B, C, *size) over ``count`` versions of each image.

    ``net`` maps images (B, 3, H, W) and a size to scores; ``count`` is 1, 2 or 8. The
    probabilities of each version are turned back before the mean is taken.
    """
    total = None
    for quarters, mirrored in TRANSFORMS[count]:
        changed = (image.flip(-1) if mirrored else image).rot90(quarters, (-2, -1))
        turned = (size[1], size[0]) if quarters % 2 else size
        seen: Tensor = net(changed, turned).softmax(1).rot90(-quarters, (-2, -1))
        seen = seen.flip(-1) if mirrored else seen
        total = seen if total is None else total.add_(seen)
    assert total is not None
    return total.div_(len(TRANSFORMS[count]))


class Augmented(nn.Module):
    """A network that scores ``count`` versions of each image: the logarithm of their mean."""

    def __init__(self, net: nn.Module, count: int) -> None:
        super().__init__()
        self.net, self.count = net, count

    def forward(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """Score images (B, 3, H, W): log-probabilities (B, C, *size)."""
        return augmented_probabilities(self.net, image, size, self.count).log()
