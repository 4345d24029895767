"""The benchmark: that it measures what it says, prints it and keeps it; not how fast anything is."""

import math
import os
import re
import time
from itertools import pairwise

import pytest
import torch
from committed import committed

from ugmm_tutorial import kernels
from ugmm_tutorial.__main__ import main
from ugmm_tutorial.experiments import bench
from ugmm_tutorial.experiments.bench import report as reports
from ugmm_tutorial.experiments.bench import sections, timing
from ugmm_tutorial.experiments.bench.rows import Report, Row

NEEDS_KERNEL = pytest.mark.skipif(kernels.unavailable("numba") is not None, reason="no fused CPU kernel here")
ENVIRONMENT = {"device": "a machine", "threads": 2, "versions": {"torch": "2.6"}, "commit": "abc"}


def row(section, name, measure, value, shape=sections.PAPER, depth=1, unit="s"):
    return Row(section, name, *shape, depth, measure, value, 2 * value, unit)


# --- timing and memory


def test_functions_are_timed_in_turns_and_the_slower_one_takes_longer(monkeypatch):
    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    order = []

    def wait(name, seconds):
        order.append(name)
        time.sleep(seconds)

    functions = {"short": lambda: wait("short", 0.011), "long": lambda: wait("long", 0.03)}
    timed = timing.in_turns(functions, seconds=0.0)
    assert 0.011 <= timed["short"][0] <= timed["short"][1]
    assert 0.03 <= timed["long"][0] <= timed["long"][1]
    changes = sum(a != b for a, b in pairwise(order))
    assert changes >= 9  # five samples each, one after the other


def test_a_sample_of_a_short_function_is_many_calls(monkeypatch):
    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    calls = [0]

    def count():
        calls[0] += 1

    timing.in_turns({"count": count}, seconds=0.0)
    assert calls[0] > 1000


def test_peak_memory_counts_what_is_alive_at_the_same_time():
    x = torch.zeros(250_000)  # a megabyte

    def one_after_the_other():
        for _ in range(5):
            x + 1

    def together():
        return [x + 1 for _ in range(5)]

    assert timing.peak_memory(one_after_the_other) == pytest.approx(1e6, rel=0.1)
    assert timing.peak_memory(together) == pytest.approx(5e6, rel=0.1)


# --- rows and files


def test_a_report_comes_back_from_its_file(tmp_path):
    made = Report(
        ENVIRONMENT, (row("operator", "cpu", "both", 0.25), row("memory", "cpu", "extra", 3e7, unit="B"))
    )
    made.save(tmp_path / "new" / "report.csv")
    assert bench.load(tmp_path / "new" / "report.csv") == made


@pytest.mark.parametrize("content", ["", "nonsense\n", '# {"device": "x"}\nsection,value\na,b\n'])
def test_another_file_is_refused_as_a_report(tmp_path, content):
    path = tmp_path / "other.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other\.csv is not a report of `python -m ugmm_tutorial bench`"):
        bench.load(path)


def test_values_are_found_by_what_they_are_and_never_guessed():
    made = Report(ENVIRONMENT, (row("a", "cpu", "both", 1.0), row("a", "cpu", "forward", 2.0)))
    assert made.value(implementation="cpu", measure="forward") == 2.0
    assert made.value(implementation="gpu") is None
    with pytest.raises(LookupError, match="2 rows have"):
        made.value(implementation="cpu")
    assert made.rows[0].exponentials == math.prod(sections.PAPER)


# --- targets


def target(made, words):
    (found,) = [t for t in reports.targets(made) if words in t.what]
    return found


def test_targets_of_memory_and_error_are_judged_on_a_gpu_too():
    (path,) = committed("benchmarks/gpu-*.csv")
    found = {t.what.split()[0]: t.reached for t in reports.targets(bench.load(path))}
    assert found["extra"] is found["error"] is True
    assert found["training"] is found["CPU"] is None


def test_targets_without_measurements_are_not_measured():
    assert {t.reached for t in reports.targets(Report(ENVIRONMENT, ()))} == {None}


@pytest.mark.parametrize(("eager", "reached", "shown"), [(0.44, False, "44x"), (0.46, True, "46x")])
def test_a_ratio_is_held_against_its_target(eager, reached, shown):
    rows = (row("operator", "eager", "both", eager), row("operator", "cpu", "both", 0.01))
    found = target(Report(ENVIRONMENT, rows), "backward against the broadcast")
    assert (found.reached, found.measured) == (reached, shown)


def test_the_share_outside_the_operator_and_the_hundred_epochs_come_from_the_step():
    rows = (row("step", "step", "step", 0.01), row("step", "operator", "step", 0.006))
    made = Report(ENVIRONMENT, rows)
    share = target(made, "share outside")
    assert (share.reached, share.measured) == (False, "40 %")
    epochs = target(made, "100 epochs")
    assert (epochs.reached, epochs.measured) == (True, "7.8 min")  # 469 steps x 100 x 10 ms


def test_a_step_on_a_gpu_is_not_held_against_the_target_of_two_cpu_cores():
    rows = (
        row("step", "step", "step", 0.001),
        row("step", "operator", "step", 0.0009),
        row("operator", "gpu", "forward", 1e-3, (4096, 1024, 1024)),
        row("operator", "eager", "forward", 0.03, (4096, 1024, 1024)),
    )
    made = Report(ENVIRONMENT, rows)
    assert target(made, "share outside").reached is None
    assert target(made, "GPU forward against").measured == "30x"
    assert target(made, "H200").reached  # 4.3e9 exponentials in a millisecond


def test_the_error_target_looks_at_the_worst_of_all_beyond_the_broadcast():
    rows = [row("accuracy", name, "output", 1e-7, unit="relative") for name in ("eager", "cpu")]
    rows += [row("accuracy", "eager", "grad x", 1e-7), row("accuracy", "cpu", "grad x", 8e-7)]
    found = target(Report(ENVIRONMENT, tuple(rows)), "error")
    assert (found.reached, found.measured) == (False, "7e-07")


# --- the whole


@NEEDS_KERNEL
def test_the_sections_measure_what_the_report_needs(monkeypatch):
    small = (8, 64, 16)
    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    monkeypatch.setattr(sections, "PAPER", small)
    monkeypatch.setattr(sections, "_CASES", {"cpu": (small,)})
    monkeypatch.setattr(sections, "_patience", lambda quick: 0.0)
    made = bench.run(only=("operator", "accuracy"), quick=True)
    found = {(r.implementation, r.measure) for r in made.select(section="operator")}
    assert found == {(n, m) for n in ("eager", "cpu", "linear") for m in ("forward", "both", "extra")}
    assert all(r.value > 0 for r in made.select(section="operator", unit="s"))
    errors = made.select(section="accuracy")
    assert len(errors) == 20
    assert all(0 < r.value < 2e-6 for r in errors)
    eager, fused = (
        made.value(section="operator", implementation=name, measure="extra") for name in ("eager", "cpu")
    )
    assert eager > 4 * math.prod(small) > fused
    text = bench.text(made)
    assert "8 x 64 -> 16" in text
    assert "not measured" in text


@NEEDS_KERNEL
def test_missing_inputs_and_masks_are_held_against_whole_rows(monkeypatch):
    from ugmm_tutorial.experiments.bench import missing_inputs

    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    monkeypatch.setattr(timing, "_SMALLEST_SAMPLE", 1e-5)
    monkeypatch.setattr(missing_inputs, "_LAYERS", ((16, 4, 8),))
    threads = torch.get_num_threads()
    made = Report(ENVIRONMENT, tuple(bench.SECTIONS["missing"]("cpu", True)))
    assert torch.get_num_threads() == threads
    assert all(r.section == "missing" and r.value > 0 for r in made.rows)
    judged = {t.what for t in missing_inputs.missing_targets(made) if t.reached is not None}
    assert judged == {
        "rows that lack inputs against whole ones, drop, 16, 4 to 8",
        "rows that lack inputs against whole ones, renormalize, 16, 4 to 8",
        "a mask for every example against one, 16, 4 to 8",
    }
    assert "lacking inputs, drop               16 x 4 -> 8" in bench.text(made)
    assert bench.SECTIONS["missing"]("cuda", True) == []


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_layer_for_gpus_is_timed_with_the_gradients_of_the_broadcast(compiled):
    from ugmm_tutorial.experiments.bench import layer_on_gpu

    if compiled and not sections._compiler_is_there("cpu"):
        pytest.skip("torch.compile needs a C++ compiler")
    fused, broadcast = (
        layer_on_gpu._run(name, (8, 5, 3), "cpu", compiled=compiled and name == "gpu")()
        for name in layer_on_gpu._BACKENDS
    )
    assert [g.shape for g in fused] == [(8, 5), (3, 5), (3, 5), (3, 5)]
    torch.testing.assert_close(fused, broadcast, rtol=1e-4, atol=1e-4)
    assert bench.SECTIONS["layer"]("cpu", True) == []


def test_the_layer_on_a_gpu_is_held_against_its_targets():
    rows = [row("layer", "gpu", *m) for m in (("both", 2e-4), ("graph", 7e-5), ("compiled", 8e-5))]
    rows.append(row("layer", "eager", "compiled", 8e-5))
    made = Report(ENVIRONMENT, tuple(rows))
    found = {t.what.removeprefix("GPU, the paper's layer"): t for t in reports.targets(made)}
    assert (found[", launched"].reached, found[", launched"].measured) == (True, "0.20 ms")
    assert (found[", as a graph"].reached, found[", as a graph"].measured) == (False, "0.07 ms")
    assert found[" compiled, against the broadcast compiled"].reached is True
    assert "gpu      graph         0.070 ms" in bench.text(made)


@pytest.mark.slow
@NEEDS_KERNEL
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no distributed training")
def test_two_processes_share_the_steps_that_one_takes_alone():
    environment, made = dict(os.environ), Report(ENVIRONMENT, tuple(bench.SECTIONS["processes"]("cpu", True)))
    assert dict(os.environ) == environment
    assert len(made.rows) == 3
    assert all(r.section == "processes" and r.value > 0 for r in made.rows)
    assert target(made, "two processes against one").reached is not None
    assert "two processes, 1 thread each" in bench.text(made)


def test_two_processes_are_held_against_one_and_measured_on_cpus_alone():
    times = {
        "one process, 1 thread": 0.17,
        "two processes, 1 thread each": 0.1,
        "one process, 2 threads": 0.09,
    }
    made = Report(ENVIRONMENT, tuple(row("processes", name, "step", t) for name, t in times.items()))
    found = target(made, "two processes against one")
    assert (found.reached, found.measured) == (True, "1.7x")
    assert bench.SECTIONS["processes"]("cuda", True) == []


@NEEDS_KERNEL
def test_small_sizes_are_measured_with_one_thread_and_two_and_held_against_their_targets(monkeypatch):
    from ugmm_tutorial.experiments.bench import small_sizes as small

    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    monkeypatch.setattr(timing, "_SMALLEST_SAMPLE", 1e-5)
    monkeypatch.setattr(small, "_GRID", ((1, 2, 3), (16, 4, 4)))
    monkeypatch.setattr(small, "_NETWORKS", {"5-10-5-1": (5, 10, 5, 1)})
    threads = torch.get_num_threads()
    rows = small.small("cpu", quick=True)
    assert torch.get_num_threads() == threads
    assert all(r.section == "small" and r.value > 0 for r in rows)
    made = Report(ENVIRONMENT, tuple(rows))
    judged = {t.what for t in small.small_targets(made) if t.reached is not None}
    assert judged >= {
        "operator at 1, 64 to 10 against a linear layer",
        "a term with 16 inputs against one with 784, forward",
        "a term with 16 inputs against one with 784, backward",
        "a term with 16 inputs against one with 784, both",
        "two threads against one, the paper's network",
        "a step of 5-10-5-1 against an MLP",
        "auto against the best, at worst",
    }
    (regret,) = made.select(section="small", measure="regret")
    assert f"auto takes the best at {int(regret.value == 1.0)} of 1 sizes" in bench.text(made)


def test_a_small_size_is_held_against_a_linear_layer_and_auto_against_the_best():
    from ugmm_tutorial.experiments.bench.small_sizes import small_targets

    rows = [
        row("small", "operator", "both", 2.5, (1, 64, 10)),
        row("small", "linear", "both", 1.0, (1, 64, 10)),
    ]
    for examples, ratio in ((1, 1.0), (16, 1.3)):
        shape = examples, 2, 2
        rows.append(row("small", "auto over the best", "regret", ratio, shape, unit="ratio"))
    found = {t.what: t for t in small_targets(Report(ENVIRONMENT, tuple(rows)))}
    linear, auto = (
        found["operator at 1, 64 to 10 against a linear layer"],
        found["auto against the best, at worst"],
    )
    assert (linear.reached, linear.measured) == (False, "2.5x")
    assert (auto.reached, auto.measured) == (False, "1.30x")
    printed = bench.text(Report(ENVIRONMENT, tuple(rows)))
    assert "auto takes the best at 1 of 2 sizes" in printed
    assert re.search(r"auto over the best +16 x 2 -> 2 +regret +1.30 x", printed)


@NEEDS_KERNEL
def test_auto_is_held_against_the_best_on_a_gpu_too(monkeypatch):
    """Without a GPU: on the CPU, whose kernel stands in for the GPU's."""
    from ugmm_tutorial.experiments.bench import small_sizes as small

    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    monkeypatch.setattr(timing, "_SMALLEST_SAMPLE", 1e-5)
    monkeypatch.setattr(small, "_GRID", ((1, 2, 3), (16, 4, 4)))
    (found,) = small._regret(0.0, True, "numba", "cpu")
    assert (found.implementation, found.measure, found.unit) == (
        "auto (numba) over the best",
        "regret",
        "ratio",
    )
    assert found.value >= 1.0
    if kernels.unavailable("triton") is not None:
        assert bench.SECTIONS["small"]("cuda", True) == []
        assert bench.SECTIONS["tiles"]("cuda", True) == []
    assert bench.SECTIONS["tiles"]("cpu", True) == []


def test_tiles_are_held_against_the_best_of_their_size():
    times = {"1 x 4 of 8 x 16": 2.0, "2 x 4 of 8 x 16, chosen": 3.0}
    rows = [row("tiles", f"layer, outputs: {name}", "forward", seconds) for name, seconds in times.items()]
    rows.append(row("tiles", "layer, outputs: 1 x 4 of 8 x 16, chosen", "forward", 9.0, (8, 5, 3)))
    made = Report(ENVIRONMENT, tuple(rows))
    found = target(made, "GPU, tiles as they are")
    assert (found.reached, found.measured) == (False, "1.50x")
    assert "  layer, outputs: 2 x 4 of 8 x 16, chosen" in bench.text(made)


@NEEDS_KERNEL
def test_first_calls_are_those_of_new_processes(monkeypatch):
    from ugmm_tutorial.experiments.bench import small_sizes as small

    monkeypatch.setattr(small, "_FIRST", "import os; print(len(os.environ['NUMBA_CACHE_DIR']) > 0 and 0.5)")
    assert [(r.implementation, r.value) for r in small._first_calls()] == [
        ("first call, cold cache", 0.5),
        ("first call, warm cache", 0.5),
    ]


def test_torch_compile_is_left_out_where_no_compiler_is_and_says_so(monkeypatch, capsys):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(sections.shutil, "which", lambda name: None)
    found = sections._implementations((8, 64, 16), "cpu", compiled=True)
    assert "torch.compile" not in found
    assert "eager" in found
    assert "there is no C++ compiler" in capsys.readouterr().err


@NEEDS_KERNEL
def test_the_three_bare_loops_compute_what_they_are_named_for():
    import numpy as np

    from ugmm_tutorial.experiments.bench import limits

    y = np.float32([-3.5, -0.25, -20.0, -150.0])
    total = np.exp2(y[:3].astype(np.float64)).sum()
    for loop in (limits._powers, limits._powers_by_integers):
        assert loop(y, 1) == pytest.approx(total, rel=1e-6)
        assert loop(y, 2) == pytest.approx(total * (1 + 2**-0.001), rel=1e-6)
    x, mean, s, c = np.float32([[1.0, 2.0], [0.5, 3.0], [2.0, 1.0], [-1.0, -2.0]])
    assert limits._terms(x, mean, s, c, 1) == pytest.approx(2.0**-2 + 2.0**-3, rel=1e-6)


def test_an_unknown_section_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown section 'speed': expected limit, operator"):
        bench.run(only=("speed",))


@pytest.mark.parametrize("section", ["memory", "scaling"])
def test_a_section_that_would_measure_nothing_is_refused_if_it_is_named(section, monkeypatch):
    with pytest.raises(ValueError, match=rf"'{section}' would measure nothing: .*leave that out"):
        bench.run(only=("accuracy", section), quick=True)
    monkeypatch.setattr(kernels, "unavailable", lambda backend: f"no kernel for {backend}")
    with pytest.raises(ValueError, match=rf"'{section}' would measure nothing: no kernel for numba"):
        bench.run(only=(section,))


def test_sections_that_would_measure_nothing_are_left_out_if_none_is_named(monkeypatch):
    made = []
    for name in bench.SECTIONS:
        if name not in ("memory", "scaling"):
            monkeypatch.setitem(bench.SECTIONS, name, lambda device, quick, n=name: made.append(n) or [])
    assert bench.run(quick=True).rows == ()
    assert set(made) == set(bench.SECTIONS) - {"memory", "scaling"}


@pytest.mark.slow
@NEEDS_KERNEL
def test_the_command_prints_the_report_and_writes_the_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(timing, "_PAUSE", 0.0)
    monkeypatch.setattr(sections, "_patience", lambda quick: 0.0)
    path = tmp_path / "cpu.csv"
    assert main(["bench", "--quick", "--only", "accuracy", "--output", str(path)]) == 0
    printed = capsys.readouterr()
    assert "Targets" in printed.out
    assert str(path) in printed.out
    assert "measuring: accuracy" in printed.err
    assert len(bench.load(path).rows) == 20


def test_the_help_names_every_section(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    printed = capsys.readouterr().out.replace(",", " ").split()
    assert set(bench.SECTIONS) <= set(printed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--only", "speed"], "unknown section 'speed'"),
        (["--quick", "--only", "memory"], "section 'memory' would measure nothing"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bench", *arguments])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


def test_stored_reports_are_of_this_format_and_clean():
    """What chapters show was made by a committed state of the project."""
    paths = committed("benchmarks/*.csv")
    if not paths:
        pytest.skip("no checkout of the repository")
    for path in paths:
        made = bench.load(path)
        # Measured apart from the operator, in files of their own.
        apart = {"layer", "missing", "networks", "processes", "small", "tiles"}
        kind = path.stem.partition("-")[0]
        wanted = {kind} if kind in apart else set(bench.SECTIONS) - apart
        assert {r.section for r in made.rows} == wanted, path.name
        assert not made.environment["commit"].endswith("-dirty")
