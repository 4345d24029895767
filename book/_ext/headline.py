"""The picture of the README and of the first page: what learners keep when values break.

``python book/_ext/headline.py`` writes ``book/_static/broken.svg`` from the record of the study of broken
inputs. A test compares the committed file with the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chapters import ROOT
from ugmm_tutorial import data
from ugmm_tutorial.experiments import studies
from ugmm_tutorial.experiments.studies import broken_summary as summary

PATH = ROOT / "book" / "_static" / "broken.svg"
#: What is drawn: the learners of the study with their words, colours and dashes.
_DRAWN = {
    "hybrid": ("mixtures at the entrance", "#0072B2", ""),
    "MLP on Gaussians": ("MLP on Gaussian bumps", "#8a5a83", "7 4"),
    "MLP, outliers replaced": ("MLP, outliers replaced", "#555555", "1 3"),
    "forest": ("random forest", "#00795a", "2 4"),
    "boosting": ("gradient boosting", "#9a6a00", "9 3 2 3"),
    "MLP": ("MLP", "#c04a00", "5 3"),
}
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 420.0, 34.0, 236.0
_LOW, _HIGH = 30.0, 100.0
_APART = 17.0  # labels, in pixels


def curves(found: summary.Found, tables: Sequence[str]) -> dict[str, list[float]]:
    """Right answers in per cent for each share of broken values, from none on: the mean over tables."""
    return {
        learner: (100 * summary.curve(found, tables, learner, "broken", "gross")).tolist()
        for learner in _DRAWN
    }


def svg(kept: dict[str, list[float]], parts: Sequence[float]) -> str:
    """The picture of ``curves``, as text."""
    shares = [0.0, *parts]
    across = [_LEFT + (_RIGHT - _LEFT) * share / shares[-1] for share in shares]
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 290" role="img" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14">',
        '<rect width="640" height="290" rx="8" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="16" fill="#222222">right answers, mean over twelve tables</text>',
    ]
    for value in range(40, 101, 20):
        lines.append(
            f'<line x1="{_LEFT}" x2="{_RIGHT}" y1="{_height(value):.1f}" y2="{_height(value):.1f}" '
            'stroke="#dddddd"/>'
            f'<text x="{_LEFT - 8}" y="{_height(value) + 5:.1f}" text-anchor="end" fill="#222222">{value} %'
            "</text>"
        )
    for x, share in zip(across, shares, strict=True):
        lines.append(
            f'<text x="{x:.1f}" y="{_BOTTOM + 20}" text-anchor="middle" fill="#222222">{100 * share:.0f} %'
            "</text>"
        )
    lines.append(
        f'<text x="{(_LEFT + _RIGHT) / 2}" y="{_BOTTOM + 42}" text-anchor="middle" fill="#222222">'
        "values that are replaced by noise</text>"
    )
    for learner, y in _labels(kept).items():
        words, colour, dashes = _DRAWN[learner]
        points = " ".join(
            f"{x:.1f},{_height(value):.1f}" for x, value in zip(across, kept[learner], strict=True)
        )
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5" '
            f'stroke-dasharray="{dashes or "none"}"/>'
            f'<text x="{_RIGHT + 10}" y="{y + 5:.1f}" fill="{colour}">{words}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _height(value: float) -> float:
    return _BOTTOM - (_BOTTOM - _TOP) * (value - _LOW) / (_HIGH - _LOW)


def _labels(kept: dict[str, list[float]]) -> dict[str, float]:
    """Where each line's label stands: at its end, or lower, so that no two touch."""
    placed: dict[str, float] = {}
    last = -_APART
    for learner in sorted(kept, key=lambda name: -kept[name][-1]):
        last = max(_height(kept[learner][-1]), last + _APART)
        placed[learner] = last
    return placed


def main(path: Path = PATH) -> None:
    """Write the picture from the record."""
    outcome = studies.read("broken_inputs", ROOT / "results")
    parts = outcome.settings["fractions"]
    path.write_text(svg(curves(outcome.results, tuple(data.TABLES)), parts), encoding="utf-8")


if __name__ == "__main__":
    main()
