"""Muon against the singular value decomposition, and against PyTorch's own."""

import copy

import pytest
import torch

from toyfcn.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 75), (75, 8), (16, 16), (1, 5)])
def test_orthogonalize_keeps_directions_and_evens_out_their_lengths(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalize(matrix)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    core = left.T @ found @ right.T  # diagonal in the matrix's own directions
    lengths = core.diagonal()
    assert torch.allclose(core, torch.diag(lengths), atol=1e-3)
    assert lengths.min() > 0.6 and lengths.max() < 1.25


def test_steps_equal_those_of_pytorchs_muon() -> None:
    start = torch.randn(12, 30, generator=torch.Generator().manual_seed(1))
    ours = torch.nn.Parameter(start.view(12, 30, 1, 1).clone())
    theirs = torch.nn.Parameter(start.clone())
    optimizers = (
        Muon(
            [{"params": [ours], "lr": 0.1, "weight_decay": 0.01, "orthogonal": True}],
            lr=0.1,
            momentum=0.9,
        ),
        torch.optim.Muon([theirs], lr=0.1, weight_decay=0.01, momentum=0.9),
    )
    for step in range(3):
        gradient = torch.randn(12, 30, generator=torch.Generator().manual_seed(10 + step))
        ours.grad, theirs.grad = gradient.view(12, 30, 1, 1).clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (theirs - start).detach()
    # PyTorch's works in bfloat16 and dampens the momentum, which a direction does not notice
    assert ((ours.detach().view(12, 30) - start) - moved).norm() < 0.02 * moved.norm()


def test_other_groups_are_adamws() -> None:
    start = torch.linspace(-1, 1, 7)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    filters = torch.nn.Parameter(torch.ones(2, 3, 1, 1))
    muon = Muon(
        [
            {"params": [filters], "lr": 0.1, "orthogonal": True},
            {"params": [ours], "lr": 0.05, "weight_decay": 0},
        ],
        lr=0.1,
    )
    adam = torch.optim.AdamW([theirs], lr=0.05, weight_decay=0)
    for _ in range(3):
        for parameter in (ours, theirs):
            parameter.grad = parameter.detach().square() - 0.3
        filters.grad = torch.ones_like(filters)
        muon.step()
        adam.step()
    assert torch.equal(ours, theirs)
    assert not torch.equal(filters, torch.ones(2, 3, 1, 1))


def test_a_saved_state_goes_on_as_if_it_had_never_been_left() -> None:
    def moved(stop: bool) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        filters, bias = (torch.nn.Parameter(torch.ones(s)) for s in ((4, 3, 2, 2), (4,)))
        groups = [{"params": [filters], "orthogonal": True}, {"params": [bias]}]
        optimizer = Muon([dict(group) for group in groups], lr=0.1)
        for step in range(4):
            if stop and step == 2:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = Muon([dict(group) for group in groups], lr=0.1)
                optimizer.load_state_dict(state)
                assert optimizer.state_dict()["state"][0].keys() == {"momentum"}
            for parameter in (filters, bias):
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step()
        return filters.detach(), bias.detach()

    for left, whole in zip(moved(stop=True), moved(stop=False), strict=True):
        assert torch.equal(left, whole)
