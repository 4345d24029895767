"""Networks and inputs whose numbers are all drawn, in float64."""

import torch

from ugmm_tutorial import UGMMLayer, UGMMNet


def drawn_network(widths, *, seed=0, **options):
    """A network with no parameter at its initial value, in training mode."""
    torch.manual_seed(seed)
    model = UGMMNet(widths, **options).double()
    with torch.no_grad():
        for module in model:
            if isinstance(module, UGMMLayer):
                module.log_std.normal_(0.0, 0.4)
                module.mix_logits.normal_()
            else:
                module.weight.normal_(1.0, 0.2)
                module.bias.normal_(0.0, 0.2)
    return model


def drawn_inputs(count, width, seed=1):
    """Inputs (count, width) from N(0, 1)."""
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
