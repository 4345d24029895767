"""The Triton kernels compiled for three GPUs on a machine without any, and their machine code held to a plan.

That they compute the right thing is tested elsewhere, by Triton's interpreter; here it is what they cost.
"""

import os
import re
import subprocess
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from functorch.compile import make_boxed_compiler
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses.fake_tensor import FakeTensorMode

from ugmm_tutorial import UGMMLayer, kernels
from ugmm_tutorial.kernels.transform import DROPPED_LAST
from ugmm_tutorial.layers import PerExampleDropoutLayer, SparseUGMMLayer

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton interprets its kernels instead of compiling them", allow_module_level=True)
triton = pytest.importorskip("triton", reason="Triton is not installed: it exists on Linux only")
gpu = pytest.importorskip("ugmm_tutorial.kernels.triton_kernels")
gpu_elements = pytest.importorskip("ugmm_tutorial.kernels.triton_elements")
gpu_tiles = pytest.importorskip("ugmm_tutorial.kernels.triton_tiles")
gpu_layer = pytest.importorskip("ugmm_tutorial.kernels.triton_layer")
gpu_sparse = pytest.importorskip("ugmm_tutorial.kernels.triton_sparse")

pytestmark = [
    pytest.mark.slow,
    # From Python 3.13 on, of Triton's own syntax trees.
    pytest.mark.filterwarnings("ignore:AnnAssign.__init__ missing:DeprecationWarning"),
]


class Plan(NamedTuple):
    """What one element (b, j, k) may cost in the main loop, and how many warps must fit a multiprocessor.

    Attributes:
        fp32: float32 operations.
        fma: multiply-adds among them: exactly those that the source writes, or y would round differently
            in another kernel.
        background: further float32 operations if there is a background.
        redone: further float32 operations in the second loop, taken if a row was redone; None: no such loop.
        loads: numbers read per step for each row and each column of the tile, and with a background
            and in the second loop: further ones.
        warps: resident warps per multiprocessor, without and with a background.
    """

    fp32: int
    fma: int
    background: int
    redone: int | None
    loads: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    warps: tuple[int, int]


PLAN = {
    "sum_kernel": Plan(4, 1, 1, None, ((3, 1), (0, 1), (0, 0)), (20, 20)),
    "parameter_kernel": Plan(8, 2, 1, 1, ((1, 1), (0, 1), (1, 0)), (20, 20)),
    "input_kernel": Plan(6, 2, 2, 1, ((1, 3), (0, 0), (1, 0)), (20, 12)),
}
FINISH_WARPS = (16, 12)
# Addresses, counters and moves, per element: what is neither arithmetic, exponential nor load.
OVERHEAD = 0.75
UNROLL = 4
REGISTERS_PER_MULTIPROCESSOR = 65536

ARCHITECTURES = (75, 80, 90)  # Tesla T4, A100, H100
CONFIGURATIONS = list(gpu_tiles.configurations())


def name_of(configuration) -> str:
    constants = [str(int(value)) for value in configuration.constants.values() if value is not None]
    background = "background" if configuration.background else "plain"
    return "-".join([configuration.kernel.__name__, *constants, background])


class Machine(NamedTuple):
    """Compiled code: resources, and all instructions as (address, text without predicate)."""

    registers: int
    stack: int
    instructions: list[tuple[int, str]]

    def inner_loops(self) -> list[Counter]:
        """How often each instruction stands in each loop that contains no other."""
        loops = []
        for address, text in self.instructions:
            jump = re.match(r"BRA\b.*?0x([0-9a-f]+)", text)
            if jump and int(jump[1], 16) <= address:
                loops.append((int(jump[1], 16), address))
        inner = [a for a in loops if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
        return [
            Counter(text.split()[0] for address, text in self.instructions if first <= address <= last)
            for first, last in inner
        ]


@cache
def machine_code(index: int, architecture: int) -> Machine:
    configuration = CONFIGURATIONS[index]
    constants, options = configuration.constants, configuration.options
    return disassembled(
        cubin(configuration.kernel, configuration.signature(), constants, options, architecture)
    )


def cubin(kernel, signature, constants, options, architecture, aligned=("*fp32",)) -> bytes:
    # As a launch has it: PyTorch's memory is aligned, and integers are not specialised.
    attrs = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind in aligned}
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attrs)
    target = triton.backends.compiler.GPUTarget("cuda", architecture, 32)
    return triton.compile(source, target=target, options=options).asm["cubin"]


def disassembled(cubin: bytes) -> Machine:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    # The tool reads no pipe; Linux lends the memory of a process a name.
    descriptor = os.memfd_create("cubin")
    try:
        os.write(descriptor, cubin)
        text = subprocess.run(
            [tool, "-sass", "-res-usage", f"/proc/self/fd/{descriptor}"],
            pass_fds=[descriptor],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    finally:
        os.close(descriptor)
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", text).groups()
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?(.*?)\s*;", text)
    return Machine(int(registers), int(stack), [(int(address, 16), line) for address, line in lines])


def count(loop: Counter, *names: str) -> int:
    return sum(n for name, n in loop.items() if name.split(".")[0] in names)


def compiled(*kernels: str):
    """Every configuration of these kernels, on every architecture."""
    cases = [
        (i, architecture)
        for i, architecture in product(range(len(CONFIGURATIONS)), ARCHITECTURES)
        if CONFIGURATIONS[i].kernel.__name__ in kernels
    ]
    names = [f"{name_of(CONFIGURATIONS[i])}-sm_{architecture}" for i, architecture in cases]
    return pytest.mark.parametrize(("index", "architecture"), cases, ids=names)


def register_tile(configuration) -> tuple[int, int]:
    return configuration.constants["R"], configuration.constants["C"]


@compiled(*PLAN, "finish_kernel")
def test_no_register_is_spilled_and_enough_warps_fit(index, architecture):
    configuration, machine = CONFIGURATIONS[index], machine_code(index, architecture)
    assert machine.stack == 0
    spills = [text for _, text in machine.instructions if text.startswith(("LDL", "STL"))]
    assert not spills
    plan = PLAN.get(configuration.kernel.__name__)
    warps = configuration.options["num_warps"]
    # The hardware hands out registers by eights to each thread.
    per_block = -(-machine.registers // 8) * 8 * 32 * warps
    resident = REGISTERS_PER_MULTIPROCESSOR // per_block * warps
    assert resident >= (plan.warps if plan else FINISH_WARPS)[configuration.background]


@compiled(*PLAN)
def test_main_loops_do_the_planned_arithmetic(index, architecture):
    configuration = CONFIGURATIONS[index]
    plan, (rows, columns) = PLAN[configuration.kernel.__name__], register_tile(configuration)
    loops = [c for c in machine_code(index, architecture).inner_loops() if count(c, "MUFU")]
    seen = set()
    for loop in loops:
        exponentials = loop["MUFU.EX2"]
        # Exactly one per element: no other call of the unit, in whole steps of the tile.
        assert exponentials == count(loop, "MUFU")
        assert exponentials in (rows * columns, UNROLL * rows * columns)
        fp32 = count(loop, "FADD", "FMUL", "FFMA") / exponentials
        redone = fp32 - plan.fp32 - plan.background * configuration.background
        assert redone in ({0} if plan.redone is None else {0, plan.redone})
        assert count(loop, "FFMA") == plan.fma * exponentials
        seen.add((exponentials, redone))
    # Both loops, each unrolled and for the steps that are left.
    assert len(seen) == (2 if plan.redone is None else 4)


@compiled(*PLAN)
def test_main_loops_read_panels_and_little_else(index, architecture):
    configuration = CONFIGURATIONS[index]
    plan, (rows, columns) = PLAN[configuration.kernel.__name__], register_tile(configuration)
    unrolled = [
        c for c in machine_code(index, architecture).inner_loops() if c["MUFU.EX2"] == UNROLL * rows * columns
    ]
    assert unrolled
    for loop in unrolled:
        fp32 = count(loop, "FADD", "FMUL", "FFMA")
        redone = fp32 / loop["MUFU.EX2"] > plan.fp32 + plan.background * configuration.background
        holding = zip(plan.loads, (True, configuration.background, redone), strict=True)
        per_row, per_column = (sum(n) for n in zip(*(n for n, holds in holding if holds), strict=True))
        assert count(loop, "LDG") == UNROLL * (per_row * rows + per_column * columns)
        # A tile in another layout would exchange numbers between threads.
        assert not count(loop, "LDS", "LDSM", "STS", "STSM", "BAR", "SHFL", "LDL", "STL")
        rest = loop.total() - fp32 - loop["MUFU.EX2"] - count(loop, "LDG")
        assert rest <= OVERHEAD * loop["MUFU.EX2"]


@compiled("finish_kernel")
def test_redone_rows_compute_the_same_exponent(index, architecture):
    """Both passes, for the maximum and for the sum, form the one multiply-add of the main loops."""
    background = CONFIGURATIONS[index].background
    loops = machine_code(index, architecture).inner_loops()
    maxima = [c for c in loops if count(c, "FMNMX") and count(c, "FFMA") and not count(c, "MUFU", "SHFL")]
    sums = [c for c in loops if c["MUFU.EX2"] and not count(c, "SHFL")]
    assert len(maxima) == len(sums) == 1
    elements = sums[0]["MUFU.EX2"]
    for loop, further in ((maxima[0], 0), (sums[0], 2)):
        assert count(loop, "FFMA") == elements
        assert count(loop, "FADD", "FMUL", "FFMA") == (3 + background + further) * elements


SIZES = [(1, 1, 1), (33, 17, 61), (128, 128, 784), (128, 10, 128), (5, 700, 3), (3000, 3, 50), (700, 800, 9)]


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_launch_is_one_of_the_configurations(size, background, monkeypatch):
    launches = []
    monkeypatch.setattr(
        gpu,
        "launch",
        lambda configuration, grid, **arguments: launches.append((configuration, grid, arguments)),
    )
    b, j, k = size
    x, parameters = torch.zeros(b, k), [torch.zeros(j, k) for _ in range(3)]
    log_background = torch.zeros(b, k) if background else None
    out, state = gpu.forward(x, *parameters, log_background)
    state.zero_()
    gpu.backward(out, x, *parameters, log_background, state, needs_x=True, needs_parameters=True)
    assert [c.kernel.__name__ for c, _, _ in launches] == [
        "sum_kernel",
        "finish_kernel",
        "input_kernel",
        "parameter_kernel",
    ]
    for configuration, grid, arguments in launches:
        assert configuration in CONFIGURATIONS
        assert all(0 < n < 2**31 for n in grid)
        assert len(grid) == 1 or grid[1] < 2**16
        given = {name for name, value in arguments.items() if value is not None}
        assert given | set(configuration.constants) == set(configuration.kernel.arg_names)
        assert not given & set(configuration.constants)
        for name in given:
            is_tensor = isinstance(arguments[name], torch.Tensor)
            assert is_tensor == (configuration.signature()[name] == "*fp32")


def test_options_are_known_to_the_compiler():
    # An unknown option would be ignored here but raise in a launch.
    known = triton.backends.nvidia.compiler.CUDAOptions.__dataclass_fields__
    for configuration in CONFIGURATIONS:
        assert set(configuration.options) <= set(known)


def test_every_tile_is_chosen_for_some_size():
    assert gpu_tiles.sum_tile(4096, 1024) == gpu_tiles.SUM_TILES[0]
    assert gpu_tiles.sum_tile(4096, 10) == gpu_tiles.SUM_TILES[0]
    assert gpu_tiles.sum_tile(8, 4096) == gpu_tiles.SUM_TILES[1]
    assert gpu_tiles.finish_columns(128, 128) == gpu_tiles.FINISH_COLUMNS[0]
    assert gpu_tiles.finish_columns(4096, 1024) == gpu_tiles.FINISH_COLUMNS[1]


@pytest.mark.parametrize(
    "tile", [*gpu_tiles.SUM_TILES, gpu_tiles.PARAMETER_TILE, gpu_tiles.INPUT_TILE], ids=str
)
def test_tiles_occupy_a_block_and_their_sides_fit_it(tile):
    assert tile.RT * tile.CT == 4 * 32
    assert max(tile.rows, tile.columns) < 4 * 32


def test_chunks_are_whole_unrolled_steps():
    chunk = gpu_elements.CHUNK.value
    assert chunk % UNROLL == 0
    assert chunk >= 8 * UNROLL


@pytest.mark.parametrize("tiles", [1, 2, 7, 100, 511, 512, 513, 10**6])
@pytest.mark.parametrize("steps", [1, 31, 32, 64, 100, 784, 4096, 60_000])
@pytest.mark.parametrize("kernel", sorted(PLAN))
def test_splits_take_every_step_once(kernel, steps, tiles):
    kernel = next(c.kernel for c in CONFIGURATIONS if c.kernel.__name__ == kernel)
    split, span = gpu_tiles.splits(kernel, tiles, steps)
    assert (split - 1) * span < steps <= split * span
    assert split == 1 or (split * tiles <= 512 and span >= 32)


def test_panels_hold_what_each_step_reads():
    first, second = torch.randn(2, 5, 10)
    packed = gpu_tiles.panels(4, first, second)
    assert packed.shape == (3, 5, 2, 4)
    for tile, step, column in product(range(3), range(5), range(4)):
        k = min(4 * tile + column, 9)  # beyond the end the last column stands again
        assert packed[tile, step, :, column].tolist() == [first[step, k].item(), second[step, k].item()]


# --- A whole layer in five kernels


def layer_cases():
    """Every kernel and tile; of the others only one mode, which has everything that the rest have.

    Behind them stand those with masks that divide outputs, of which the backward pass prepares most.
    """
    panels = gpu_layer.layer_panels, gpu_layer.layer_finish
    forward = {"BACKWARD": False, "PARAMETER_WIDTH": 16, "INPUT_WIDTH": 64, "NEURONS": 1, "EXAMPLES": 1}
    backward = {"BACKWARD": True, "PARAMETER_WIDTH": 32, "INPUT_WIDTH": 32, "NEURONS": 16, "EXAMPLES": 32}
    both = gpu_tiles.PARAMETER_TILE, gpu_tiles.INPUT_TILE
    gradients = asdict(both[0]) | {"INPUT_R": both[1].R, "INPUT_RT": both[1].RT}
    plain = {"MASKS": 0}
    for tile in gpu_layer.TILES:
        yield gpu_layer.layer_outputs, asdict(tile) | plain
    yield gpu_layer.layer_gradients, gradients | plain
    for block in (gpu_layer.blocks(1), gpu_layer.blocks(10**6)):
        for constants in (forward, backward):
            yield panels[0], {"MODE": DROPPED_LAST, **constants, **block, **plain}
        yield panels[1], {"MODE": DROPPED_LAST, **block}
    yield gpu_layer.layer_outputs, asdict(gpu_layer.TILES[0]) | {"MASKS": 2}
    yield gpu_layer.layer_gradients, gradients | {"MASKS": 2}
    yield panels[0], {"MODE": DROPPED_LAST, **backward, **gpu_layer.blocks(1), "MASKS": 2}


LAYER_CASES = list(layer_cases())
PLAIN = [i for i, (_, constants) in enumerate(LAYER_CASES) if not constants.get("MASKS")]
MASKED = list(range(len(PLAIN), len(LAYER_CASES)))


@cache
def layer_code(index: int, architecture: int, by_inductor: bool = False) -> Machine:
    """As Triton compiles it, or PyTorch's compiler, which passes float64 and looks at all integers."""
    kernel, constants = LAYER_CASES[index]
    kinds = dict.fromkeys(gpu_elements.SIZES, "i32")
    kinds |= dict.fromkeys(("low", "high"), "fp64" if by_inductor else "fp32")
    if constants.get("MASKS"):
        kinds |= dict.fromkeys(("words", "odd", "heaviest"), "*i32")
    kinds |= dict.fromkeys(constants, "constexpr")
    signature = {name: kinds.get(name, "*fp32") for name in kernel.arg_names}
    aligned = ("*fp32", "i32") if by_inductor else ("*fp32",)
    options = gpu_layer.MASKED_OPTIONS if constants.get("MASKS") else gpu_layer.OPTIONS
    return disassembled(cubin(kernel, signature, constants, options, architecture, aligned))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "index", PLAIN, ids=[f"{i}-{k.__name__}" for i, (k, _) in enumerate(LAYER_CASES[: len(PLAIN)])]
)
def test_a_layers_kernels_spill_nothing_and_twenty_warps_fit(index, architecture):
    machine = layer_code(index, architecture)
    assert machine.stack == 0
    assert not [text for _, text in machine.instructions if text.startswith(("LDL", "STL"))]
    assert machine.registers <= 96


@pytest.mark.parametrize("index", [*PLAIN, MASKED[0]])
def test_pytorchs_compiler_gets_the_same_loops_from_it(index):
    machine = layer_code(index, 90, by_inductor=True)
    assert machine.stack == layer_code(index, 90).stack
    assert not [text for _, text in machine.instructions if re.match("D(ADD|MUL|FMA|SETP|MNMX)", text)]

    def work(machine):
        loops = [loop for loop in machine.inner_loops() if loop["MUFU.EX2"]]
        fp32 = [count(loop, "FADD", "FMUL", "FFMA") for loop in loops]
        exchanged = [count(loop, "LDS", "STS", "SHFL", "BAR") for loop in loops]
        loads = [count(loop, "LDG") for loop in loops]
        return sorted(zip([loop["MUFU.EX2"] for loop in loops], fp32, loads, exchanged, strict=True))

    assert work(machine) == work(layer_code(index, 90))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("index", range(len(gpu_layer.TILES)))
def test_a_layers_outputs_cost_what_those_of_the_operator_do(index, architecture):
    """Sums with and without delta, and maxima: the plan of ``sum_kernel``, and nothing between threads."""
    tile, seen = gpu_layer.TILES[index], set()
    for loop in layer_code(index, architecture).inner_loops():
        elements = count(loop, "FFMA")
        if not (loop["MUFU.EX2"] or count(loop, "FMNMX")) or elements % (tile.R * tile.C):
            continue
        assert count(loop, "MUFU") in (0, elements)
        fp32 = count(loop, "FADD", "FMUL", "FFMA") / elements
        seen.add((count(loop, "MUFU") // elements, fp32))
        assert count(loop, "LDG") * tile.R * tile.C == (3 * tile.R + tile.C) * elements
        assert not count(loop, "LDS", "LDSM", "STS", "STSM", "BAR", "SHFL")
        if elements > tile.R * tile.C:
            rest = loop.total() - count(loop, "FADD", "FMUL", "FFMA", "MUFU", "FMNMX", "LDG")
            # Counters and addresses weigh more where a thread has four elements instead of eight.
            assert rest <= (OVERHEAD if tile.R * tile.C > 4 else 1.0) * elements
    assert seen == {(1, 4), (1, 5), (0, 3)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_layers_gradients_have_the_loops_of_both_kernels(architecture):
    loops = layer_code(len(gpu_layer.TILES), architecture).inner_loops()
    found = {
        (count(c, "FADD", "FMUL", "FFMA") / c["MUFU.EX2"], count(c, "FFMA") / c["MUFU.EX2"])
        for c in loops
        if c["MUFU.EX2"]
    }
    plans = PLAN["parameter_kernel"], PLAN["input_kernel"]
    assert found == {(p.fp32 + redone, p.fma) for p in plans for redone in (0, p.redone)}


# As for sparse layers: exponentials, float32 operations, multiply-adds among them, and numbers read.
MASKED_LOOPS = {
    "layer_outputs": {(1, 5, 1, 2.25), (1, 5, 1, 2.0), (0, 3, 1, 2.0)},
    "layer_gradients": {(1, 9, 2, 2.0), (1, 10, 2, 2.5), (1, 6, 2, 1.5), (1, 7, 2, 2.125)},
    "layer_panels": set(),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("index", MASKED)
def test_masks_of_examples_cost_a_product_and_no_exchange(index, architecture):
    """No loop spills, and 16 warps fit; outside of the loops, two registers may be put aside."""
    machine, kernel = layer_code(index, architecture), LAYER_CASES[index][0]
    assert machine.registers <= 128
    assert machine.stack <= 8
    loops, seen = machine.inner_loops(), set()
    assert not sum(count(loop, "LDL", "STL") for loop in loops)
    for loop in loops if MASKED_LOOPS[kernel.__name__] else ():
        elements = loop["MUFU.EX2"] or count(loop, "FMNMX")
        if elements:
            assert not count(loop, "LDS", "LDSM", "STS", "STSM", "BAR", "SHFL")
            kinds = ("MUFU",), ("FADD", "FMUL", "FFMA"), ("FFMA",), ("LDG",)
            seen.add(tuple(count(loop, *names) / elements for names in kinds))
    assert seen == MASKED_LOOPS[kernel.__name__]


def test_few_outputs_get_small_tiles_and_every_tile_is_chosen_for_some_size():
    of = gpu_layer.tile_for
    assert [of(4096, 1024), of(8, 65536), of(512, 128), of(128, 128)] == list(gpu_layer.TILES)
    for tile in gpu_layer.TILES:
        assert tile.ST * tile.RT * tile.CT == 4 * 32
        assert max(tile.R * tile.RT, tile.C * tile.CT) * tile.ST < 4 * 32
        assert all(side % gpu_layer.blocks(10**6)["ROWS"] == 0 for side in (tile.rows, tile.columns))
    assert gpu_tiles.PARAMETER_TILE.columns == gpu_tiles.INPUT_TILE.columns  # they share their panels


# --- Neurons that read a few inputs each

SPARSE_CASES = [
    (gpu_sparse.sparse_prepared, gpu_sparse.block(1)),
    (gpu_sparse.sparse_outputs, {}),
    (gpu_sparse.sparse_gradients, {}),
]
# Of an element: exponentials, float32 operations, multiply-adds among them, and numbers read. Four are read
# for each component, five for each that reads an input, which four examples share; delta is one more.
SPARSE_LOOPS = {
    "sparse_outputs": {(1, 4, 1, 2.0), (1, 5, 1, 2.0), (0, 3, 1, 2.0)},
    "sparse_gradients": {(1, 8, 2, 2.0), (1, 9, 2, 3.0), (1, 6, 2, 2.25), (1, 7, 2, 3.25)},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("index", range(3), ids=["prepared", "outputs", "gradients"])
def test_sparse_kernels_spill_nothing_and_compute_one_exponential_per_element(index, architecture):
    kernel, constants = SPARSE_CASES[index]
    kinds = dict.fromkeys(gpu_elements.SIZES, "i32") | dict.fromkeys(("index", "order", "starts"), "*i64")
    if "order" in kernel.arg_names:
        kinds["neurons"] = "*i64"
    kinds |= dict.fromkeys(constants, "constexpr")
    signature = {name: kinds.get(name, "*fp32") for name in kernel.arg_names}
    aligned = ("*fp32", "*i64")
    machine = disassembled(cubin(kernel, signature, constants, gpu_sparse.OPTIONS, architecture, aligned))
    assert machine.stack == 0
    assert not [text for _, text in machine.instructions if text.startswith(("LDL", "STL"))]
    assert machine.registers <= 96
    seen = set()
    for loop in machine.inner_loops():
        elements = loop["MUFU.EX2"] or count(loop, "FMNMX")
        if elements and kernel.__name__ in SPARSE_LOOPS:
            assert not count(loop, "LDS", "LDSM", "STS", "STSM", "BAR", "SHFL")
            kinds = ("MUFU",), ("FADD", "FMUL", "FFMA"), ("FFMA",), ("LDG",)
            seen.add(tuple(count(loop, *names) / elements for names in kinds))
    assert seen == SPARSE_LOOPS.get(kernel.__name__, set())


class NoGpu:
    """What Triton asks of a driver before it compiles."""

    def get_current_target(self):
        return triton.backends.compiler.GPUTarget("cuda", 90, 32)

    def is_active(self):
        return True


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Tensors that have a device, but no memory there."""
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    if not torch.backends.cuda.is_built() or gpu_layer.OPAQUE:
        pytest.skip("this PyTorch knows no GPUs, or cannot trace these kernels")
    monkeypatch.setattr(kernels, "_triton_unavailable", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: nullcontext())
    monkeypatch.setattr(triton.runtime.driver, "_active", NoGpu())
    torch._dynamo.reset()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        yield torch.device("cuda")
    torch._dynamo.reset()


def graphs_of(function, *calls):
    """What every graph calls that the compiler is given, besides memory, views and sizes."""
    graphs, cheap = [], ("new_empty", "empty_like", "view", "built-in function", "sym_size")

    def record(module, _):
        nodes = [n for n in module.graph.nodes if n.op == "call_function"]
        graphs.append([n for n in nodes if not any(name in str(n.target) for name in cheap)])
        return module.forward

    compiled = torch.compile(
        function, fullgraph=True, backend=aot_autograd(fw_compiler=make_boxed_compiler(record))
    )
    for call in calls:
        compiled(*call)
    return graphs


@pytest.mark.parametrize("rows", [(33,), (33, 65, 66, 130)], ids=["", "any batch"])
def test_a_compiled_layer_is_two_launches_and_nothing_else(rows, pretended_gpu):
    layer = UGMMLayer(40, 20, min_std=0.1, max_std=3.0, device=pretended_gpu)
    graphs = graphs_of(layer, *((torch.randn(n, 40, device=pretended_gpu),) for n in rows))
    assert len(graphs) == min(len(rows), 2)  # the second is for all other batches
    for graph in graphs:
        written = [sorted(node.kwargs["tensors_to_clone"]) for node in graph]
        assert written == [
            ["input_panels", "lowest", "parameter_panels", "statistics"],
            ["lowest", "out", "state"],
        ]


def test_its_backward_pass_is_three_launches_and_nothing_else(pretended_gpu):
    layer = UGMMLayer(40, 20, device=pretended_gpu)
    x = torch.randn(33, 40, device=pretended_gpu)
    assert graphs_of(layer, (x,))  # registers the operators, too
    penalty = torch.zeros_like(layer.mean)
    arguments, rule = (x, *layer.parameters(), penalty), (DROPPED_LAST, -1.0, 1.0)
    grad, state, lowest = torch.ops.ugmm.layer(*arguments, *rule)

    def backward(grad):
        return torch.ops.ugmm.layer_backward(grad, *arguments, state, lowest, *rule, True, True)

    (graph,) = graphs_of(backward, (grad.t().contiguous().t(),))
    assert [sorted(node.kwargs["tensors_to_clone"])[-1] for node in graph] == [
        "statistics",
        "sums",
        "gradients",
    ]


def test_a_sparse_layer_on_a_gpu_calls_the_operator_with_these_kernels(pretended_gpu):
    layer = SparseUGMMLayer(40, 200, 6, device=pretended_gpu)
    (graph,) = graphs_of(layer, (torch.randn(33, 40, device=pretended_gpu),))
    (call,) = (node for node in graph if "sparse_log_density" in str(node.target))
    assert call.args[-1] == "triton"


def test_a_compiled_layer_with_masks_of_examples_draws_words_and_launches_two_kernels(pretended_gpu):
    layer = PerExampleDropoutLayer(40, 20, dropout=0.5, device=pretended_gpu)
    (graph,) = graphs_of(layer, (torch.randn(33, 40, device=pretended_gpu),))
    launched = [node.kwargs["tensors_to_clone"] for node in graph if "tensors_to_clone" in node.kwargs]
    assert [sorted(written)[0] for written in launched] == ["heaviest", "lowest"]
    assert (
        max(node.meta["val"].numel() for node in graph if hasattr(node.meta["val"], "numel")) < 33 * 20 * 40
    )
