"""The schedule against what its sentences promise."""

from itertools import islice

import numpy as np
import pytest

from toyfcn.data.schedule import Schedule


@pytest.mark.parametrize(("images", "batch"), [(10, 3), (12, 4), (5, 8), (1, 1)])
def test_epoch_sampling_sees_every_image_once(images: int, batch: int) -> None:
    schedule = Schedule(images, batch, "epoch", seed=3)
    orders = []
    for epoch in range(3):
        batches = list(schedule.batches(epoch))
        assert len(batches) == schedule.steps == int(np.ceil(images / batch))
        order = [key.image for keys in batches for key in keys]
        assert sorted(order) == list(range(images))
        orders.append(tuple(order))
    assert images < 5 or len(set(orders)) == 3  # each epoch has an order of its own


def test_uniform_sampling_draws_each_batch_anew() -> None:
    schedule = Schedule(20, 6, "uniform", seed=1)
    seen = np.zeros(20)
    for epoch in range(500):
        for keys in schedule.batches(epoch):
            images = [key.image for key in keys]
            assert len(set(images)) == 6
            seen[images] += 1
    expected = 500 * 4 * 6 / 20
    assert ((seen - expected) ** 2 / expected).sum() < 43.8  # chi-square, 19 degrees, p = 0.001
    with pytest.raises(ValueError, match="without replacement from 20"):
        Schedule(20, 21, "uniform")


@pytest.mark.parametrize("sampling", ["epoch", "uniform", "list"])
def test_any_step_follows_from_seed_epoch_and_step_alone(sampling: str) -> None:
    schedule = Schedule(23, 4, sampling, seed=5)
    for epoch in (0, 7):
        whole = list(schedule.batches(epoch))
        for start in range(schedule.steps + 1):
            assert list(schedule.batches(epoch, start)) == whole[start:]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_every_batch(processes: int) -> None:
    whole = Schedule(23, 4, "epoch", seed=2)
    shares = [Schedule(23, 4, "epoch", 2, rank, processes) for rank in range(processes)]
    for batch, *parts in zip(whole.batches(1), *(s.batches(1) for s in shares), strict=True):
        assert sorted(key for part in parts for key in part) == sorted(batch)


def test_numbers_count_samples_through_the_epochs() -> None:
    schedule = Schedule(8, 4, "epoch")
    numbers = [key.number for epoch in range(3) for b in schedule.batches(epoch) for key in b]
    assert numbers == list(range(24))
    assert [k.image for k in next(islice(Schedule(8, 4, "list").batches(2), 1))] == [0, 1, 2, 3]
