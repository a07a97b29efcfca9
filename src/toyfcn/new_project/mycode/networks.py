"""Networks: any nn.Module that maps photos to scores, of any stride."""

from torch import Tensor, nn


class Small(nn.Module):
    """Three convolutions: photos (B, 3, H, W) to scores (B, classes, H/2, W/2).

    Photos come normalized by ImageNet's mean and standard deviation.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, padding=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, photo: Tensor) -> Tensor:
        """Return the scores."""
        scores: Tensor = self.layers(photo)
        return scores
