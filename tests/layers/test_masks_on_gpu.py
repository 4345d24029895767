"""A mask for every example, drawn by the kernels for GPUs: against masks written out in float64.

Where there is no GPU, these tests run in a second process, under Triton's interpreter.
"""

import copy
import math
from importlib.util import find_spec

import pytest
import torch
from test_masks_of_examples import MODES, close, pair, results
from test_on_gpu import BACKWARD, DEVICE, FORWARD, HERE, LARGE, launches, runs
from torch.utils._python_dispatch import TorchDispatchMode
from under_interpreter import how_many_pass

if HERE:
    from ugmm_tutorial.kernels import triton_layer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


def on_device(size, options):
    """A layer for these kernels, the same in float64 under the same masks, and inputs."""
    layer, _, x = pair(size, options)
    layer = layer.to(DEVICE)
    layer.backend = "triton"
    return layer, copy.deepcopy(layer).double(), x.to(DEVICE)


# Examples, inputs, neurons; the tile; which of the modes; how far from the means inputs are.
CASES = {
    "renormalize": ((5, 9, 3), 3, 0, 1.0),
    "literal": ((5, 9, 3), 3, 1, 1.0),
    "inverted": ((5, 9, 3), 3, 2, 1.0),
    "inputs": ((5, 9, 3), 3, 3, 1.0),
    "one is left": ((7, 9, 4), 3, 4, 1.0),
    "one is left, literal": ((7, 9, 4), 3, 5, 1.0),
    "all are dropped": ((4, 5, 3), 3, 6, 1.0),
    "far": ((7, 9, 4), 3, 4, 300.0),
    "far, literal": ((7, 9, 4), 3, 1, 300.0),
    "large tiles": ((65, 5, 17), 0, 0, 300.0),
}


@runs
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_masks_written_out_in_float64(case, monkeypatch):
    size, tile, mode, spread = CASES[case]
    monkeypatch.setattr(triton_layer, "tile_for", lambda *sizes: triton_layer.TILES[tile])
    monkeypatch.setattr(triton_layer, "blocks", lambda rows: LARGE)
    layer, exact, x = on_device(size, MODES[mode])
    names = launches(monkeypatch)
    got = results(layer, spread * x)
    assert names == FORWARD + BACKWARD
    for one, want in zip(got, results(exact, spread * x), strict=True):
        assert one.dtype == torch.float32
        close(one, want, 2e-6 if spread == 1.0 else 2e-5)


@runs
def test_a_second_run_gives_the_same_bits_and_nothing_of_the_size_of_all_terms_exists(monkeypatch):
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            # Triton's interpreter looks at tensors as bytes.
            if isinstance(out, torch.Tensor) and out.element_size() > 1:
                self.size = max(self.size, out.numel())
            return out

    monkeypatch.setattr(triton_layer, "blocks", lambda rows: LARGE)
    layer, _, x = on_device((20, 20, 20), {"dropout": 0.7})
    first = results(layer, x)
    assert all(torch.equal(a, b) for a, b in zip(first, results(layer, x), strict=True))
    given, masks = (x, *(p.detach() for p in layer.parameters()), None), (*layer._transform(20).masks, True)
    with Largest() as seen:
        out, *kept = triton_layer.forward(*given, 0, -1.0, 1.0, *masks)
        triton_layer.backward(out, *given, *kept, 0, -1.0, 1.0, True, True, *masks)
    assert 3 * 20 * 20 < seen.size < 20 * 20 * 20


@runs
def test_a_compiled_layer_has_the_same_numbers_and_second_derivatives_the_same_masks(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(triton_layer, "blocks", lambda rows: LARGE)
    layer, exact, x = on_device((3, 5, 3), {"dropout": 0.4})
    for one in (layer, exact):  # beyond a bound the gradient is a rule, and has no derivative
        one.log_std.data.clamp_(-1.0, 0.5)
        one.mix_logits.data[1, 2] = 0.0
    for got, want in zip(results(layer, x, second=True), results(exact, x, second=True), strict=True):
        close(got, want, 1e-4)
    names, usual = launches(monkeypatch), results(layer, x)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.manual_seed(5)
    out = compiled(x)
    assert names == FORWARD + BACKWARD + FORWARD
    assert out.equal(usual[0])


@runs
def test_the_operators_are_registered_as_pytorch_demands(monkeypatch):
    monkeypatch.setattr(triton_layer, "blocks", lambda rows: LARGE)
    layer, _, x = on_device((2, 3, 3), {"dropout": 0.4})
    layer(x)
    rule, masks = (0, -1.0, 1.0), (*layer._transform(2).masks, True)
    arguments, tests = (
        (x, *(p.detach() for p in layer.parameters()), None),
        ("test_schema", "test_faketensor"),
    )
    out, *kept = torch.ops.ugmm.layer(*arguments, *rule, *masks)
    assert kept[0].shape == (3, 2, 3)
    torch.library.opcheck(torch.ops.ugmm.layer.default, (*arguments, *rule, *masks), test_utils=tests)
    given = (out, *arguments, *kept, *rule, True, True, *masks)
    torch.library.opcheck(torch.ops.ugmm.layer_backward.default, given, test_utils=tests)


@runs
def test_nan_of_a_dropped_input_stays_out_of_the_sum_and_every_call_has_other_masks():
    layer, _, x = on_device((6, 9, 3), {"input_dropout": 0.5})
    x[:, 4] = math.nan
    torch.manual_seed(1)
    first, second = layer(x), layer(x)
    assert first.isnan().any()
    assert not first.isnan().all()
    assert not first.isnan().equal(second.isnan())
    torch.manual_seed(1)
    torch.testing.assert_close(layer(x), first, rtol=0.0, atol=0.0, equal_nan=True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.skipif(HERE, reason="the tests above ran the kernels")
def test_the_kernels_pass_this_file_under_the_interpreter():
    assert how_many_pass(__file__) >= 14
