"""The scores of trivial predictions on a data set, and the upper bound of a coarse output.

    python benchmarks/baselines.py FOLDER [--split test] [--train train]

FOLDER has the layout of a VOC year. Three answers are scored with the mean IU of the data set:
background everywhere, the most likely class of each pixel's color, and the ground truth averaged
over blocks of 2x2 or 4x4 pixels and upsampled bilinearly, which few predictions at that stride can
exceed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Predict = Callable[[Ints, Ints], Ints]  # (photo (h, w, 3), target (h, w)) -> classes (h, w)

VOID = 255
LEVELS = 16  # a channel of the color histogram


def read(folder: Path, name: str) -> tuple[Ints, Ints]:
    """Return a photo (h, w, 3) and its mask (h, w), both int64."""
    with Image.open(folder / "JPEGImages" / f"{name}.jpg") as photo:
        pixels = np.asarray(photo.convert("RGB"), np.int64)
    with Image.open(folder / "SegmentationClass" / f"{name}.png") as mask:
        return pixels, np.asarray(mask, np.int64)


def ids(folder: Path, split: str) -> list[str]:
    """Return the ids of a split, in the order of its list."""
    return (folder / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()


def bins(photo: Ints) -> Ints:
    """Return the number of each pixel's color bin, (h, w) of 0..LEVELS**3 - 1."""
    red, green, blue = np.moveaxis(photo * LEVELS // 256, -1, 0)
    return np.asarray((red * LEVELS + green) * LEVELS + blue)


def color_counts(folder: Path, split: str, classes: int) -> Floats:
    """Count the labelled pixels of a split by color bin and class, (LEVELS**3, classes)."""
    counts = np.zeros(LEVELS**3 * classes)
    for photo, target in (read(folder, name) for name in ids(folder, split)):
        known = target != VOID
        counts += np.bincount(bins(photo)[known] * classes + target[known], minlength=counts.size)
    return counts.reshape(-1, classes)


def bilinear_matrix(length: int, stride: int) -> Floats:
    """Return the matrix (length * stride, length) of bilinear upsampling, half-pixel centers."""
    at = np.clip((np.arange(length * stride) + 0.5) / stride - 0.5, 0, length - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(length)), 0, None))


def oracle(target: Ints, stride: int, classes: int) -> Ints:
    """Return the target (h, w) downsampled to a grid of `stride` and back; void has no class."""
    h, w = target.shape
    padded = np.pad(target, ((0, -h % stride), (0, -w % stride)), constant_values=VOID)
    rows, columns = padded.shape[0] // stride, padded.shape[1] // stride
    hot = padded.reshape(rows, stride, columns, stride) == np.arange(classes)[:, *[None] * 4]
    up = bilinear_matrix(rows, stride) @ hot.mean((2, 4)) @ bilinear_matrix(columns, stride).T
    return np.asarray(up.argmax(0)[:h, :w])


def mean_iu(folder: Path, split: str, classes: int, predict: Predict) -> float:
    """Score a prediction: one confusion matrix, void dropped, mean over classes that occur."""
    confusion = np.zeros(classes**2, np.int64)
    for photo, target in (read(folder, name) for name in ids(folder, split)):
        known = target != VOID
        pairs = target[known] * classes + predict(photo, target)[known]
        confusion += np.bincount(pairs, minlength=classes**2)
    square = confusion.reshape(classes, classes)
    hit = square.diagonal()
    union = square.sum(0) + square.sum(1) - hit
    return float((hit[union > 0] / union[union > 0]).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="holds JPEGImages, SegmentationClass, ImageSets")
    parser.add_argument("--split", default="test", help="the list that is scored")
    parser.add_argument("--train", default="train", help="the list that teaches the colors")
    arguments = parser.parse_args()
    folder, split = arguments.folder, arguments.split
    listed = folder / "classes.txt"
    classes = len(listed.read_text().split()) if listed.exists() else 21

    counts = color_counts(folder, arguments.train, classes)
    plain = counts.argmax(1)
    balanced = (counts / np.maximum(counts.sum(0), 1)).argmax(1)

    def score(predict: Predict) -> float:
        return mean_iu(folder, split, classes, predict)

    colors = {
        "as frequent as they are": score(lambda photo, target: plain[bins(photo)]),
        "classes made equally frequent": score(lambda photo, target: balanced[bins(photo)]),
    }
    best = max(colors, key=colors.__getitem__)
    rows = {
        "background everywhere": score(lambda photo, target: np.zeros_like(target)),
        f"color of the pixel, {best}": colors[best],
        "ground truth at stride 4, upsampled": score(
            lambda photo, target: oracle(target, 4, classes)
        ),
        "ground truth at stride 2, upsampled": score(
            lambda photo, target: oracle(target, 2, classes)
        ),
    }
    print(f"{folder}, {split}: {len(ids(folder, split))} images, {classes} classes\n")
    width = max(map(len, rows))
    print(f"{'prediction':<{width}}  mean IU")
    for name, value in rows.items():
        print(f"{name:<{width}}  {value:7.3f}")


if __name__ == "__main__":
    main()
