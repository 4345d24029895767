"""Other tiles of the GPU kernels: each computes the same, and each has its row.

Where there is no GPU, these tests run in a second process, under Triton's interpreter.
"""

from importlib.util import find_spec

import pytest
from under_interpreter import how_many_pass

from ugmm_tutorial import kernels
from ugmm_tutorial.experiments.bench import tiles_on_gpu as tiles

HERE = kernels.unavailable("triton") is None
DEVICE = "cpu" if kernels.interpreted() else "cuda"
runs = pytest.mark.skipif(not HERE, reason="the GPU kernels do not run here")
pytestmark = [
    # PyTorch warns of itself.
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning"),
]
if kernels.interpreted():
    from interpreter import patch_once_per_launch

    patch_once_per_launch()


@pytest.fixture
def few(monkeypatch):
    """One small shape, some of the candidates, and each timed once."""
    monkeypatch.setattr(tiles, "_SHAPES", ((5, 7, 3),))
    monkeypatch.setattr(tiles, "_OPERATOR", tiles._OPERATOR[2:4])
    monkeypatch.setattr(tiles, "_LAYER", (tiles._LAYER[5], tiles._LAYER[-1]))
    monkeypatch.setattr(tiles, "_GRADIENTS", (tiles._GRADIENTS[1], tiles._GRADIENTS[-1]))
    seen = []

    def once(functions, **options):
        seen.extend(functions)
        return dict.fromkeys(functions, (1.0, 2.0))

    monkeypatch.setattr(tiles, "in_turns", once)
    return seen


@runs
def test_every_candidate_computes_the_same_and_has_its_row(few):
    rows = tiles.tiles(DEVICE, True)
    assert [row.implementation for row in rows] == few
    assert {row.implementation.partition(":")[0] for row in rows} == {
        f"{kind}, {what}" for kind in ("operator", "layer") for what in ("outputs", "gradients")
    }
    assert sum(row.implementation.endswith(", chosen") for row in rows) == 4
    assert len(rows) == 4 * 3


@runs
def test_a_candidate_that_computes_something_else_stops_the_section(few, monkeypatch):
    before = tiles._run_with

    def wrong(constants, run):
        found = before(constants, run)
        return tuple(2.0 * one for one in found)

    monkeypatch.setattr(tiles, "_run_with", wrong)
    with pytest.raises(RuntimeError, match=r"operator, outputs: the tile .* computes something else"):
        tiles.tiles(DEVICE, True)


@runs
def test_the_kernels_get_their_tiles_back():
    from ugmm_tutorial.kernels import triton_kernels, triton_layer, triton_tiles

    before = triton_tiles.PARAMETER_TILE
    other = triton_tiles.Tile(1, 8, 2, 16)
    modules = (triton_tiles, triton_kernels, triton_layer)
    try:
        with tiles._instead({"PARAMETER_TILE": other}):
            assert all(module.PARAMETER_TILE is other for module in modules)
            assert triton_tiles.parameter_configuration(False).constants["R"] == 1
            raise KeyError
    except KeyError:
        assert all(module.PARAMETER_TILE is before for module in modules)
    wide = triton_layer.TILES[1]
    with tiles._instead({"SUM_TILES": (other,), "TILES": (wide,)}):
        assert triton_tiles.sum_tile(4096, 1024) is other
        assert triton_layer.tile_for(5, 3) is wide


@pytest.mark.slow
@pytest.mark.skipif(HERE, reason="the GPU kernels run in this process")
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed: it exists on Linux only")
def test_the_kernels_pass_this_file_under_the_interpreter():
    assert how_many_pass(__file__) == 3
