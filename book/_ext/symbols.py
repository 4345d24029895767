"""Mathematical symbols: those that the prose uses, and those that the notation page defines."""

from __future__ import annotations

import re

from chapters import APPENDICES

#: Commands that do not name a quantity: layout, operators, relations, and the number pi.
_OPERATORS = set(
    re.findall(
        r"\w+",
        "frac tfrac sqrt sum prod int log exp max min arg lim infty left right big Big bigg Bigg Bigl Bigr "
        "bigl bigr le ge leq geq ne approx sim propto cdot times dots ldots cdots mid to quad qquad text "
        "mathrm mathtt mathbf mathcal operatorname begin end aligned gathered partial pm in notin pi ln cos "
        "sin prime underbrace overline hat bar tilde widehat",
    )
)
_NAMES = re.compile(r"\\(?:mathrm|mathtt|text|operatorname)\s*\{((?:[^{}]|\{[^}]*\})*)\}")
_STYLED = re.compile(r"\\(mathbf|mathcal|mathbb)\s*\{?([A-Za-z])\}?")
#: Names in upright type that are not quantities: operators, units, layout, or words of a sentence.
_WORDS = {"d", "nats", "if", "and", "for", "aligned", "gathered"}


def formulas(markdown: str) -> list[str]:
    """All formulas between dollar signs, display formulas first."""
    text = re.sub(r"```.*?```|`[^`\n]*`", " ", markdown, flags=re.DOTALL)
    display = re.findall(r"\$\$(.+?)\$\$", text, flags=re.DOTALL)
    inline = re.findall(r"(?<!\\)\$([^$\n]+)\$", re.sub(r"\$\$.+?\$\$", " ", text, flags=re.DOTALL))
    return display + inline


def symbols(formula: str) -> set[str]:
    """The quantities and functions that a formula names: ``x``, ``\\mu``, ``\\mathbf x``, ``softmax``."""
    formula = re.sub(r"\\(?:begin|end)\{\w+\}|\\[,;:! ]|\\\\|\\[{}%]", " ", formula)
    found = set()
    for match in _NAMES.finditer(formula):
        name = match[1].replace("\\_", "_").strip()
        if name and name not in _WORDS:
            found.add(name)
    rest = _NAMES.sub(" ", formula)
    for match in _STYLED.finditer(rest):
        found.add(f"\\{match[1]} {match[2]}")
    rest = _STYLED.sub(" ", rest)
    for command in re.findall(r"\\([A-Za-z]+)", rest):
        if command not in _OPERATORS:
            found.add("\\" + command)
    found |= set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", rest)))
    return found


def defined(notation: str, chapter: int) -> set[str]:
    """The general symbols and a chapter's own, from the first columns of the notation page's tables."""
    found, own = set(), None
    for line in notation.splitlines():
        if line.startswith(("#", "Chapter ", "Appendix ")):
            match = re.match(r"(?:#+ )?(?:Chapter (\d+)|Appendix [A-Z])", line)
            own = int(match[1] or APPENDICES) if match else None
        elif line.startswith("|") and own in (None, chapter):
            first = line.replace("\\|", " ").split("|")[1]
            for formula in formulas(first):
                found |= symbols(formula)
    return found


def undefined(prose: str, notation: str, chapter: int) -> list[str]:
    """The symbols that a chapter uses but the notation page does not define, in alphabetical order."""
    used = set().union(*(symbols(formula) for formula in formulas(prose)))
    return sorted(used - defined(notation, chapter))
