"""All that comes with the package may be used, changed and passed on; readers are told what may not."""

from __future__ import annotations

from email.message import Message
from types import SimpleNamespace

import licences
import pytest

#: Words that name terms under which everybody may use, change and pass on a package.
FREE = ("MIT", "BSD", "Apache", "PSF", "Python Software Foundation", "MPL", "Mozilla", "Zlib", "HPND")


def test_all_that_comes_with_the_package_is_free_but_nvidias_libraries():
    table = licences.rows("ugmm_tutorial")
    names = [name for name, _, _ in table]
    assert {"torch", "numpy", "scikit-learn", "MarkupSafe"} <= {*names}  # the last is three steps away
    assert len(names) == len({*names})
    others = [(name, terms) for name, _, terms in table if not any(word in terms for word in FREE)]
    assert all("NVIDIA" in name and "not free software" in terms for name, terms in others), others
    assert len(others) <= 1


@pytest.mark.parametrize(
    ("stated", "read"),
    [
        ({"License-Expression": "MIT", "License": "see file"}, "MIT"),
        ({"Classifier": "License :: OSI Approved :: BSD License", "License": "BSD"}, "BSD License"),
        ({"Classifier": "Topic :: Software Development", "License": "Own terms\nand more"}, "Own terms"),
        ({}, "not stated"),
    ],
)
def test_licence_is_what_the_package_states(stated, read):
    about = Message()
    for name, value in stated.items():
        about[name] = value
    assert licences.licence(SimpleNamespace(metadata=about)) == read
