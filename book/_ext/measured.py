"""Measured numbers in prose, and those that no claim covers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ugmm_tutorial.teaching.claims import NUMBER, plain_text

_UNIT = (
    r"%|points?\b|ms\b|milliseconds?\b|seconds?\b|minutes?\b|hours?\b|times\b|[- ]?fold\b"
    r"|[kMG]i?B\b|bytes?\b|nats?\b|exponentials a second\b|orders? of magnitude\b"
)
_POWER = r"(?:\s*(?:\\cdot|·)\s*10\^\{?-?\d+\}?)?"
MEASURED = re.compile(
    rf"(?:(?<![\w)])[-−]|(?<![\w.^_{{-])){NUMBER}{_POWER}(?:\s(?:to|and)\s{NUMBER}{_POWER})?"
    rf"\s?(?:million |billion )?(?:{_UNIT})",
    re.IGNORECASE,
)


def readable(markdown: str) -> str:
    """The words that a reader sees, with single spaces and without code, link targets and TeX at numbers."""
    without = re.sub(r"```.*?```", " ", markdown, flags=re.DOTALL)
    without = re.sub(r"`[^`\n]*`|\]\([^)\n]*\)|<[^>\n]+>", " ", without)
    return plain_text(without)


def uncovered(markdown: str, covering: Iterable[str]) -> list[str]:
    """Measured numbers in the prose that no covering text contains, each with some words around it."""
    text = readable(markdown)
    covered = [
        span
        for words in covering
        for span in (m.span() for m in re.finditer(re.escape(plain_text(words)), text))
    ]
    return [
        text[max(0, match.start() - 30) : match.end() + 20]
        for match in MEASURED.finditer(text)
        if not any(start <= match.start() and match.end() <= end for start, end in covered)
    ]


def unsaid(markdown: str, claimed: Iterable[str]) -> list[str]:
    """Claimed words that the prose does not contain."""
    text = readable(markdown)
    return [words for words in claimed if plain_text(words) not in text]
