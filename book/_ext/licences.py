"""The table of licences: what comes with the package, and under which terms."""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution

from docutils import nodes
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from runs_page import table_of


class Licences(SphinxDirective):
    """The directive ``{licences}``: a table with one row for each package."""

    def run(self) -> list[nodes.Node]:
        """Make the table from what is installed here."""
        return [table_of(("Package", "Version", "Licence"), rows("ugmm_tutorial"))]


def connect(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("licences", Licences)


def rows(package: str) -> list[tuple[str, str, str]]:
    """Name, version and licence of all that a package needs, and what that needs, as installed here.

    NVIDIA's libraries, which PyTorch brings along on Linux, are one row.
    """
    found = {one.metadata["Name"]: one for one in _needed(package).values()}
    ours = [name for name in found if name.startswith(("nvidia-", "cuda-"))]
    table = [(name, one.version, licence(one)) for name, one in found.items() if name not in ours]
    table.sort(key=lambda row: row[0].lower())
    if ours:
        table.append((f"{len(ours)} libraries of NVIDIA", "for CUDA", "NVIDIA's own, not free software"))
    return table


def licence(one: Distribution) -> str:
    """The licence that a package states: as an expression, by its classifiers, or in words."""
    about = one.metadata
    classifiers = [
        c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if c.startswith("License ::")
    ]
    words = (about.get("License") or "not stated").strip().splitlines()
    return about.get("License-Expression") or ", ".join(classifiers) or words[0]


def _needed(package: str) -> dict[str, Distribution]:
    """All packages that one needs, by their canonical names, without itself."""
    found: dict[str, Distribution] = {}
    left = [(package, frozenset[str]())]
    while left:
        name, extras = left.pop()
        for line in distribution(name).requires or []:
            need = Requirement(line)
            marker, key = need.marker, canonicalize_name(need.name)
            wanted = marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""})
            if wanted and key not in found:
                try:
                    found[key] = distribution(need.name)
                except PackageNotFoundError:  # left out here, as Triton is on some systems
                    continue
                left.append((need.name, frozenset(need.extras)))
    return found
