"""Random arguments of the operator, for several test modules."""

import torch


def arguments(b, j, k, *, background=False, seed=0):
    """x (B, K), three parameters (J, K) and, if wanted, a background (B, K), in float32 on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(b, k, generator=generator)
    mean = torch.randn(j, k, generator=generator)
    log_std = 0.5 * torch.randn(j, k, generator=generator)
    log_weight = torch.log_softmax(torch.randn(j, k, generator=generator), dim=-1)
    given = (torch.randn(b, k, generator=generator),) if background else ()
    return [x, mean, log_std, log_weight, *given]
