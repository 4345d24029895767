"""A step of training does what it says; a recorded one does the same on a GPU."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ugmm_tutorial import UGMMNet
from ugmm_tutorial.training.steps import CapturedStep, Step

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


def batches(count, size, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        x, y = torch.randn(size, 6, generator=generator), torch.randint(3, (size,), generator=generator)
        yield x.to(device), y.to(device)


def test_a_step_is_one_update_by_the_gradient_of_the_mean_cross_entropy():
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    ((x, y),) = batches(1, 10)
    loss = cross_entropy(model(x), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    expected = [p.detach() - 0.1 * g for p, g in zip(model.parameters(), gradients, strict=True)]
    right = (model(x).argmax(1) == y).sum()
    step = Step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    model.weight.grad = torch.full_like(model.weight, 100.0)  # what was there before does not count
    got_loss, got_right = step(x, y)
    torch.testing.assert_close(list(model.parameters()), expected)
    assert got_loss.item() == loss.item()
    assert got_right.item() == right.item()
    assert not got_loss.requires_grad


@NO_GPU
def test_recorded_steps_train_as_ordinary_ones_do():
    results = []
    for kind in (Step, CapturedStep):
        torch.manual_seed(0)
        model = UGMMNet((6, 32, 3), norm="layer").cuda()
        rate = torch.tensor(1e-2, device="cuda")
        step = kind(model, torch.optim.Adam(model.parameters(), lr=rate, fused=True, capturable=True))
        losses = [step(x, y)[0] for x, y in batches(12, 64, "cuda")]
        rate.fill_(1e-3)
        losses += [step(x, y)[0] for x, y in (*batches(2, 64, "cuda"), *batches(1, 10, "cuda"))]
        results.append(torch.stack(losses))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
