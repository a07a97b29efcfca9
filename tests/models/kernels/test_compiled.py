"""Labels and loss in one pass in C, against PyTorch, and where nothing can be compiled."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from toyfcn.models.kernels import compiled
from toyfcn.models.kernels.argmax import argmax_labels
from toyfcn.models.losses import cross_entropy_sums, labels_and_loss, log_loss

needs_compiler = pytest.mark.skipif(compiled.library() is None, reason="no C compiler")


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is compiled or known yet, before and after."""
    compiled.library.cache_clear()
    yield
    compiled.library.cache_clear()


def weights_of(classes: int) -> torch.Tensor:
    weights = torch.zeros(256)
    weights[:classes] = torch.linspace(0.5, 2, classes)
    return weights


@needs_compiler
@pytest.mark.parametrize("classes", [1, 2, 21, 254])
@pytest.mark.parametrize("pixels", [1, 255, 256, 257, 5000])
@pytest.mark.parametrize("spread", [0.1, 10, 1000])
def test_labels_and_loss_are_pytorchs(classes: int, pixels: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(pixels)
    scores = spread * torch.randn(classes, pixels, generator=generator)
    target = torch.randint(0, classes, (pixels,), dtype=torch.uint8, generator=generator)
    target[3::7] = 255
    weights, labels = weights_of(classes), torch.empty(pixels, dtype=torch.uint8)
    total, weight = compiled.labels_and_loss(scores, labels, target, weights)
    expected = F.cross_entropy(
        scores.T.double(),
        target.long(),
        weights[:classes].double(),
        ignore_index=255,
        reduction="sum",
    )
    assert torch.equal(labels.long(), scores.argmax(0))
    assert total == pytest.approx(expected.item(), rel=1e-6, abs=1e-6 * pixels)
    assert weight == pytest.approx(weights[target.long()].sum().item(), rel=1e-5)
    by_bits = compiled.labels_and_loss(scores * 1.442695, labels, target, weights, in_bits=True)
    assert by_bits[0] == pytest.approx(total, rel=1e-5, abs=1e-5 * pixels)


@needs_compiler
def test_ties_and_numbers_that_are_none() -> None:
    nan, inf = float("nan"), float("inf")
    columns = [[1, 1, 0], [0, 2, 2], [nan, 1, 2], [1, nan, 2], [1, 2, nan], [-inf, -inf, 0],
               [-inf, -inf, -inf], [0, inf, 1]]  # fmt: skip
    scores = torch.tensor(columns).T.contiguous()
    plain = F.log_softmax(scores, 0)
    for i, column in enumerate(columns):
        labels, target = torch.empty(1, dtype=torch.uint8), torch.tensor([2], dtype=torch.uint8)
        one = scores[:, i : i + 1].contiguous()
        total, _ = compiled.labels_and_loss(one, labels, target, torch.ones(256))
        assert labels.item() == [0, 1, 0, 0, 0, 2, 0, 1][i], column
        expected = -plain[2, i].item()
        if expected < inf:
            assert total == pytest.approx(expected, abs=1e-6)
        else:
            assert not total < inf


@needs_compiler
def test_rows_may_lie_apart_and_targets_beyond_the_classes_are_left_out() -> None:
    whole = torch.randn(3, 40)
    labels = torch.empty(20, dtype=torch.uint8)
    target = torch.arange(20, dtype=torch.uint8) % 5  # 3 and 4 are no classes
    total, weight = compiled.labels_and_loss(whole[:, :20], labels, target, torch.ones(256))
    known = target < 3
    expected = F.cross_entropy(whole[:, :20].T[known], target[known].long(), reduction="sum")
    assert torch.equal(labels.long(), whole[:, :20].argmax(0))
    assert (total, weight) == (pytest.approx(expected.item(), rel=1e-5), 12)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_of_batches_whatever_their_layout(layout: torch.memory_format, dtype: torch.dtype) -> None:
    scores = torch.randn(2, 5, 30, 40).to(dtype).contiguous(memory_format=layout)
    target = torch.randint(0, 5, (2, 30, 40), dtype=torch.uint8)
    target[:, 4:6] = 255
    labels, total, pixels = labels_and_loss(scores, target, torch.ones(5), 255)
    expected, count = cross_entropy_sums(scores, target, torch.ones(5), 255)
    assert torch.equal(labels.long(), scores.float().argmax(1))
    assert torch.equal(labels, argmax_labels(scores)) and pixels == count
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_loss_of_probabilities_is_that_of_their_scores() -> None:
    scores = torch.randn(2, 5, 30, 40)
    target = torch.randint(0, 5, (2, 30, 40), dtype=torch.uint8)
    target[:, 4:6] = 255
    total, pixels = log_loss(scores.softmax(1), target, 255)
    expected, count = cross_entropy_sums(scores, target, torch.ones(5), 255)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5) and pixels == count


@pytest.mark.parametrize("why", ["no compiler", "it fails", "a folder that cannot be written"])
def test_without_a_compiler_pytorch_does_the_same(
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fresh: None,
) -> None:
    scores, target = torch.randn(1, 5, 30, 40), torch.randint(0, 5, (1, 30, 40)).byte()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compiles = compiled.library() is not None
    before = labels_and_loss(scores, target, torch.ones(5), 255)
    compiled.library.cache_clear()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("file" if "folder" in why else "other")))
    monkeypatch.setenv("CC", {"no compiler": "no-such-cc", "it fails": "false"}.get(why, "cc"))
    caplog.set_level(logging.INFO)
    after = labels_and_loss(scores, target, torch.ones(5), 255)
    assert torch.equal(before[0], after[0]) and before[2] == after[2]
    assert before[1].item() == pytest.approx(after[1].item(), rel=1e-6)
    again = labels_and_loss(scores, target, torch.ones(5), 255)
    assert torch.equal(again[1], after[1])
    told = [line for line in caplog.messages if "nothing can be compiled" in line]
    assert len(told) == 1 and (not compiles or "no-such-cc" in told[0] or why != "no compiler")


@needs_compiler
def test_many_may_compile_at_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: compiled.compiled_with(["cc"], compiled.FLAGS), range(4)))
    assert [path.suffix for path in (tmp_path / "toyfcn").iterdir()] == [".so"]


@needs_compiler
def test_sums_do_not_depend_on_the_number_of_threads() -> None:
    scores, target = torch.randn(21, 50_000), torch.randint(0, 21, (50_000,), dtype=torch.uint8)
    labels, found, threads = torch.empty_like(target), set(), torch.get_num_threads()
    try:
        for count in (1, 2, 3, 4):
            torch.set_num_threads(count)
            found.add(compiled.labels_and_loss(scores, labels, target, torch.ones(256)))
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1
