"""The sampler against what its sentences promise."""

from itertools import islice

import numpy as np
import pytest

from toyfcn.data.sampler import EpochSampler, size_buckets


@pytest.mark.parametrize(("images", "batch"), [(10, 3), (12, 4), (5, 8), (1, 1)])
def test_epoch_sampling_sees_every_image_once(images: int, batch: int) -> None:
    sampler = EpochSampler(images, batch, "epoch", seed=3)
    orders = []
    for epoch in range(3):
        batches = list(sampler.batches(epoch))
        assert len(batches) == sampler.steps == int(np.ceil(images / batch))
        order = [key.image for keys in batches for key in keys]
        assert sorted(order) == list(range(images))
        orders.append(tuple(order))
    assert images < 5 or len(set(orders)) == 3  # each epoch has an order of its own


def test_uniform_sampling_draws_each_batch_anew() -> None:
    sampler = EpochSampler(20, 6, "uniform", seed=1)
    seen = np.zeros(20)
    for epoch in range(500):
        for keys in sampler.batches(epoch):
            images = [key.image for key in keys]
            assert len(set(images)) == 6
            seen[images] += 1
    expected = 500 * 4 * 6 / 20
    assert ((seen - expected) ** 2 / expected).sum() < 43.8  # chi-square, 19 degrees, p = 0.001
    with pytest.raises(ValueError, match="without replacement from 20"):
        EpochSampler(20, 21, "uniform")


@pytest.mark.parametrize("sampling", ["epoch", "uniform", "list"])
def test_any_step_follows_from_seed_epoch_and_step_alone(sampling: str) -> None:
    sampler = EpochSampler(23, 4, sampling, seed=5)
    for epoch in (0, 7):
        whole = list(sampler.batches(epoch))
        for start in range(sampler.steps + 1):
            assert list(sampler.batches(epoch, start)) == whole[start:]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_every_batch(processes: int) -> None:
    whole = EpochSampler(23, 4, "epoch", seed=2)
    shares = [EpochSampler(23, 4, "epoch", 2, rank, processes) for rank in range(processes)]
    for batch, *parts in zip(whole.batches(1), *(s.batches(1) for s in shares), strict=True):
        assert sorted(key for part in parts for key in part) == sorted(batch)


def test_numbers_count_samples_through_the_epochs() -> None:
    sampler = EpochSampler(8, 4, "epoch")
    numbers = [key.number for epoch in range(3) for b in sampler.batches(epoch) for key in b]
    assert numbers == list(range(24))
    assert [k.image for k in next(islice(EpochSampler(8, 4, "list").batches(2), 1))] == [0, 1, 2, 3]


# ---- buckets of like size ----


def padded_pixels(sizes: np.ndarray, batches: list[list[int]]) -> float:
    """Share of the pixels of all batches that is padding, counted batch by batch."""
    whole = sum(len(b) * max(sizes[i][0] for i in b) * max(sizes[i][1] for i in b) for b in batches)
    return 1 - sum(sizes[i][0] * sizes[i][1] for b in batches for i in b) / whole


def photos(count: int) -> np.ndarray:
    """Sizes as in VOC: one side of 500 pixels, landscape or portrait."""
    rng = np.random.default_rng(count)
    short = rng.integers(280, 501, count)
    return np.array([(s, 500) if rng.random() < 0.7 else (500, s) for s in short])


@pytest.mark.parametrize(("images", "count"), [(1, 1), (7, 3), (60, 7), (211, 13)])
def test_buckets_hold_every_image_once_and_fill_a_batch(images: int, count: int) -> None:
    buckets = size_buckets(photos(images), count)
    assert len(buckets) == count
    assert sorted(int(i) for bucket in buckets for i in bucket) == list(range(images))
    assert min(len(bucket) for bucket in buckets) >= images // count


def test_buckets_halve_along_the_side_that_differs_most() -> None:
    sizes = np.array([(10, 90), (10, 10), (12, 10), (11, 80)])
    assert [sorted(bucket.tolist()) for bucket in size_buckets(sizes, 2)] == [[1, 2], [0, 3]]


def test_bucketed_batches_pad_little_and_see_every_image_once() -> None:
    sizes = photos(211)
    found = {}
    for count in (1, 6):
        sampler = EpochSampler(211, 8, "epoch", 3, buckets=size_buckets(sizes, count))
        epochs = [[[k.image for k in keys] for keys in sampler.batches(e)] for e in range(5)]
        for batches in epochs:
            assert [len(b) for b in batches] == [8] * 26 + [3]
            assert sorted(i for b in batches for i in b) == list(range(211))
        assert len({tuple(map(tuple, batches)) for batches in epochs}) == 5
        assert len({tuple(sorted(batches[-1])) for batches in epochs}) == 5  # no image is the last
        found[count] = np.mean([padded_pixels(sizes, batches) for batches in epochs])
    assert found[6] < found[1] / 2


def test_uniform_sampling_from_buckets_is_fair() -> None:
    buckets = size_buckets(photos(40), 5)
    sampler = EpochSampler(40, 6, "uniform", seed=1, buckets=buckets)
    seen, sets = np.zeros(40), [set(bucket.tolist()) for bucket in buckets]
    for epoch in range(400):
        for keys in sampler.batches(epoch):
            images = {key.image for key in keys}
            assert len(images) == 6 and any(images <= bucket for bucket in sets)
            seen[list(images)] += 1
    expected = 400 * 7 * 6 / 40
    assert abs(seen / expected - 1).max() < 0.16


@pytest.mark.parametrize("sampling", ["epoch", "uniform"])
def test_bucketed_batches_start_anywhere_and_are_shared(sampling: str) -> None:
    buckets = size_buckets(photos(23), 3)
    sampler = EpochSampler(23, 4, sampling, 5, buckets=buckets)
    whole = list(sampler.batches(2))
    for start in range(sampler.steps + 1):
        assert list(sampler.batches(2, start)) == whole[start:]
    shares = [EpochSampler(23, 4, sampling, 5, rank, 2, buckets) for rank in range(2)]
    for batch, *parts in zip(whole, *(s.batches(2) for s in shares), strict=True):
        assert sorted(key for part in parts for key in part) == sorted(batch)
