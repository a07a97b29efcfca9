"""Scores of a photo seen more than once: mirrored, and turned by quarters."""

from __future__ import annotations

from torch import Tensor, nn

VIEWS = {  # quarter turns, and whether mirrored before
    1: [(0, False)],
    2: [(0, False), (0, True)],
    8: [(quarters, mirrored) for mirrored in (False, True) for quarters in range(4)],
}


def mean_of_views(net: nn.Module, image: Tensor, size: tuple[int, int], views: int) -> Tensor:
    """Return the mean of the class probabilities (B, C, *size) that a network sees in its views.

    ``net`` maps photos (B, 3, H, W) and a size to scores; ``views`` is 1, 2 or 8. Each view's
    probabilities are brought back to where the photo has them before the mean is taken.
    """
    total = None
    for quarters, mirrored in VIEWS[views]:
        view = (image.flip(-1) if mirrored else image).rot90(quarters, (-2, -1))
        turned = (size[1], size[0]) if quarters % 2 else size
        seen: Tensor = net(view, turned).softmax(1).rot90(-quarters, (-2, -1))
        seen = seen.flip(-1) if mirrored else seen
        total = seen if total is None else total + seen
    assert total is not None
    return total / len(VIEWS[views])
