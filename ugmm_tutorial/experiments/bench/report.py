"""A report as plain text: tables, and the targets of the package beside what was measured."""

from __future__ import annotations

import math

from ugmm_tutorial.experiments.bench.layer_on_gpu import layer_targets
from ugmm_tutorial.experiments.bench.missing_inputs import missing_targets
from ugmm_tutorial.experiments.bench.processes import processes_target
from ugmm_tutorial.experiments.bench.rows import Report, Row
from ugmm_tutorial.experiments.bench.sections import LARGE, PAPER
from ugmm_tutorial.experiments.bench.small_sizes import small_targets
from ugmm_tutorial.experiments.bench.tiles_on_gpu import tiles_target
from ugmm_tutorial.experiments.bench.verdicts import Target, at_least, at_most, error, minutes, percent, times

__all__ = ["Target", "targets", "text"]

_STEPS_PER_EPOCH = 469  # 60,000 images in batches of 128
_EPOCHS = 100
_H200_EXPONENTIALS = 4.2e12  # a second: 132 multiprocessors, 16 a clock cycle, 1.98 GHz
_MIB = 2**20


def targets(report: Report) -> list[Target]:
    """All targets, for the operator and for training. Those that need another device are not measured."""

    def seconds(name: str, measure: str, shape: tuple[int, int, int] = PAPER) -> float | None:
        return report.value(section="operator", implementation=name, measure=measure, **_shape(shape))

    def bare(name: str) -> float | None:
        return report.value(section="limit", implementation=name)  # seconds for the paper's first layer

    fused = "gpu" if report.select(implementation="gpu") else "cpu"

    def part(name: str) -> float | None:
        return None if fused == "gpu" else report.value(section="step", implementation=name)

    h200 = (4096, 1024, 1024)
    needed = 4 * (LARGE[0] * (LARGE[1] + LARGE[2]) + 3 * LARGE[1] * LARGE[2])
    extra = report.value(section="memory", implementation=fused, measure="extra")
    least = _H200_EXPONENTIALS / math.prod(h200)
    return [
        at_least("CPU forward, of the speed of bare exponentials", 0.9, percent,
                  bare("exponentials"), seconds("cpu", "forward")),
        at_least("CPU forward, of the speed of bare terms", 0.9, percent,
                  bare("terms"), seconds("cpu", "forward")),
        at_least("CPU forward + backward against the broadcast", 45, times,
                  seconds("eager", "both"), seconds("cpu", "both")),
        at_least("CPU forward + backward against torch.compile", 8, times,
                  seconds("torch.compile", "both"), seconds("cpu", "both")),
        at_most("extra memory of a 1024 x 4096 -> 4096 layer, of what it returns", 2, times, extra, needed),
        at_most("error beyond that of the broadcast (largest, relative)", 5e-7, error,
                 _excess_error(report, fused), 1.0),
        at_most("training step of the paper's network, share outside the operator", 0.20, percent,
                 _difference(part("step"), part("operator")), part("step")),
        at_most("100 epochs of the paper's network, training steps alone", 12, minutes,
                 part("step"), 60 / (_EPOCHS * _STEPS_PER_EPOCH)),
        at_least("GPU forward, of the H200's 4.2e12 exponentials a second", 0.7, percent,
                  1.0, _product(seconds("gpu", "forward", h200), least)),
        at_least("GPU forward + backward, of the same", 0.55, percent,
                  2.0, _product(seconds("gpu", "both", h200), least)),
        at_least("GPU forward against the broadcast", 20, times,
                  seconds("eager", "forward", h200), seconds("gpu", "forward", h200)),
        *layer_targets(report),
        *small_targets(report),
        *missing_targets(report),
        processes_target(report),
        tiles_target(report),
    ]  # fmt: skip


def text(report: Report) -> str:
    """The whole report for a terminal."""
    environment = report.environment
    lines = [
        f"{environment['device']}, {environment['threads']} threads, "
        f"PyTorch {environment['versions']['torch']}",
        "Each time is the smallest of several, which noise can only make longer; a file has the medians too.",
        *_limits(report),
        *_operators(report),
        *_step(report),
        *_memory(report),
        *_scaling(report),
        *_layer(report),
        *_networks(report),
        *_small(report),
        *_processes(report),
        *_tiles(report),
        "",
        "Targets",
    ]
    for target in targets(report):
        verdict = {True: "reached", False: "NOT reached", None: "not measured"}[target.reached]
        lines.append(f"  {target.what:68} {target.wanted:>9} {target.measured:>9}  {verdict}")
    return "\n".join(lines)


def _layer(report: Report) -> list[str]:
    rows = report.select(section="layer")
    lines = ["", "The paper's first layer, forward and backward"] if rows else []
    return lines + [f"  {r.implementation:8} {r.measure:10} {1e3 * r.value:8.3f} ms" for r in rows]


def _networks(report: Report) -> list[str]:
    found: dict[str, dict[str, float]] = {}
    for row in report.select(section="networks"):
        found.setdefault(row.implementation, {})[row.measure] = 1e3 * row.value
    if not found:
        return []
    shown = {"step": "a training step on 128 images", "graph": "the same as a CUDA graph",
             "inference": "the classes of 1000"}  # fmt: skip
    shown = {measure: words for measure, words in shown.items() if measure in next(iter(found.values()))}
    lines = ["", f"Networks: ms for {', '.join(shown.values())}"]
    return lines + [f"  {name:40} " + " ".join(f"{t[m]:8.3f}" for m in shown) for name, t in found.items()]


def _small(report: Report) -> list[str]:
    lines = []
    for section, title in (
        ("small", "Small sizes, threads and first calls"),
        ("missing", "Missing inputs and masks"),
    ):
        rows = report.select(section=section)
        lines += ["", title] if rows else []
        chosen = [r for r in rows if r.measure == "regret"]
        best = [r for r in chosen if r.value == 1.0]
        if chosen:
            lines.append(f"  auto takes the best at {len(best)} of {len(chosen)} sizes")
        for r in (r for r in rows if r not in best):
            shape = "" if r.batch * r.inputs * r.outputs == 1 else _arrow((r.batch, r.inputs, r.outputs))
            value = f"{r.value:12.2f} x" if r.unit == "ratio" else f"{1e6 * r.value:12.1f} us"
            lines.append(f"  {r.implementation:34} {shape:20} {r.measure:10} {value}")
    return lines


def _processes(report: Report) -> list[str]:
    rows = report.select(section="processes")
    lines = ["", "Training step of the paper's network in several processes"] if rows else []
    return lines + [f"  {r.implementation:30} batch of {r.batch} {1e3 * r.value:7.2f} ms" for r in rows]


def _tiles(report: Report) -> list[str]:
    rows = report.select(section="tiles")
    lines = ["", "Tiles of the GPU kernels: elements in each of so many threads"] if rows else []
    for r in rows:
        shape = _arrow((r.batch, r.inputs, r.outputs))
        lines.append(f"  {r.implementation:62} {shape:22} {1e3 * r.value:9.3f} ms")
    return lines


def _limits(report: Report) -> list[str]:
    lines = []
    for row in report.select(section="limit", measure="forward"):
        speed = row.exponentials / row.value / 1e9
        lines.append(f"  bare {row.implementation:24} {speed:8.2f} billion a second")
    for row in report.select(section="limit", measure="copy"):
        # Each number is read and written, four bytes each time.
        lines.append(f"  copying memory                {8 * row.batch / row.value / 1e9:8.2f} GB a second")
    return (
        ["", "Limits: nothing but arithmetic on numbers in the cache, nothing but memory", *lines]
        if lines
        else []
    )


def _operators(report: Report) -> list[str]:
    lines: list[str] = []
    rows = report.select(section="operator")
    bare = report.value(section="limit", implementation="exponentials")
    for shape in dict.fromkeys((r.batch, r.inputs, r.outputs) for r in rows):
        here = [r for r in rows if (r.batch, r.inputs, r.outputs) == shape]
        value = {(r.implementation, r.measure): r for r in here}
        lines += [
            "",
            f"Operator, {shape[0]} x {shape[1]} -> {shape[2]}: {here[0].exponentials:,} exponentials",
        ]
        lines.append(
            f"  {'':14} {'forward':>10} {'of limit':>9} {'and backward':>13} {'exponentials/s':>15} "
            f"{'extra memory':>13} {'against eager':>14}"
        )
        for name in dict.fromkeys(r.implementation for r in here):
            forward, both = value[name, "forward"].value, value[name, "both"].value
            eager = value["eager", "both"].value / both if ("eager", "both") in value else None
            count = value[name, "forward"].exponentials
            limited = name in ("cpu", "gpu") and bare is not None
            share = percent(bare * count / math.prod(PAPER) / forward) if limited else ""
            speed = "" if name == "linear" else f"{2 * count / both:.3g}"
            extra = value[name, "extra"].value / _MIB
            lines.append(
                f"  {name:14} {1e3 * forward:7.2f} ms {share:>9} {1e3 * both:10.2f} ms {speed:>15} "
                f"{extra:9.1f} MiB {times(eager) if eager else '':>14}"
            )
        if graphs := {name: row.value for (name, measure), row in value.items() if measure == "graph"}:
            shown = ", ".join(f"{name} {1e3 * seconds:.3f} ms" for name, seconds in graphs.items())
            lines.append(f"  forward and backward as one CUDA graph: {shown}")
    return lines


def _step(report: Report) -> list[str]:
    rows = report.select(section="step")
    title = "Training step of the paper's network, batch of 128, and its parts measured alone"
    return ["", title, *(f"  {r.implementation:22} {1e3 * r.value:7.2f} ms" for r in rows)] if rows else []


def _memory(report: Report) -> list[str]:
    lines = []
    for both in report.select(section="memory", measure="both"):
        extra = report.value(section="memory", implementation=both.implementation, measure="extra")
        lines += ["", f"Large layer, {both.batch} x {both.inputs} -> {both.outputs}, forward and backward"]
        lines.append(
            f"  {both.implementation:14} {both.value:.2f} s, {extra / _MIB:.0f} MiB beyond what it returns"
        )
    return lines


def _scaling(report: Report) -> list[str]:
    rows = report.select(section="scaling")
    lines = ["", "Growth, forward and backward"] if rows else []
    for r in rows:
        layers = f"{r.depth} of {_arrow((r.batch, r.inputs, r.outputs))}"
        per = 1e12 * r.value / (2 * r.exponentials)
        lines.append(f"  {layers:32} {1e3 * r.value:9.2f} ms {per:8.0f} ps per exponential")
    return lines


def _arrow(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]} x {shape[1]} -> {shape[2]}"


def _excess_error(report: Report, name: str) -> float | None:
    """How far the error of a fused operator exceeds the broadcast's, at most, over outputs and gradients."""
    excess = [
        r.value - report.value(**(_key(r) | {"implementation": "eager"}))
        for r in report.select(section="accuracy", implementation=name)
    ]
    return max(excess, default=None)


def _key(row: Row) -> dict:
    names = ("section", "implementation", "batch", "inputs", "outputs", "depth", "measure")
    return {name: getattr(row, name) for name in names}


def _shape(shape: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("batch", "inputs", "outputs"), shape, strict=True))


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _product(a: float | None, b: float) -> float | None:
    return None if a is None else a * b
