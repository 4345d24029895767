"""A folded cell says in one line what it has checked."""

import nbclient
import nbformat
import pytest

from ugmm_tutorial.teaching import traces

FOLDED = "# @title Check: x\n"


@pytest.mark.parametrize(
    ("source", "numbers", "line"),
    [
        (FOLDED + "claim('6 %', 0.06)", 6, "✓ 6 numbers checked"),
        (FOLDED + "claim('6 %', 0.06)", 1, "✓ 1 number checked"),
        (FOLDED + "assert x", 0, "✓ 1 assertion holds"),
        (FOLDED + "assert x\nassert y", 2, "✓ 2 numbers checked, 2 assertions hold"),
        (FOLDED + "torch.testing.assert_close(a, b)\nassert y", 0, "✓ 2 assertions hold"),
        (FOLDED + "%matplotlib inline\nassert y", 0, "✓ 1 assertion holds"),
        (FOLDED + "x = 1", 0, ""),
        (FOLDED + "if x:\n    %time y", 0, ""),
        ("assert x", 3, ""),
        ("# @title Solution 1.1\nassert x", 0, ""),
    ],
)
def test_line(source, numbers, line):
    assert traces.checked(source, numbers) == line


def test_elsewhere_than_in_a_notebook_nothing_happens(monkeypatch):
    monkeypatch.setattr(traces.claims, "listeners", [])
    traces.watch()
    assert traces.claims.listeners == []


@pytest.mark.slow
def test_in_a_notebook_folded_cells_print_it_once_and_only_what_held(monkeypatch):
    monkeypatch.setenv("UGMM_CLAIMS", "note")
    cells = [
        "from ugmm_tutorial.teaching import plotting\nfrom ugmm_tutorial.teaching.claims import claim\n"
        "plotting.use_style(); plotting.use_style()",
        "claim('7 %', 0.07)",
        FOLDED + "claim('6 to 8 %', [0.06, 0.08]); claim('5 %', 0.09)\nprint('mine')",
        FOLDED + "assert True",
        FOLDED + "x = 1",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    printed = ["".join(o.text for o in c.outputs) for c in notebook.cells]
    assert printed[0] == printed[1] == printed[4] == ""
    assert printed[2].splitlines()[0].startswith("Not so on this machine")
    assert printed[2].splitlines()[1:] == ["mine", "✓ 2 numbers checked"]
    assert printed[3] == "✓ 1 assertion holds\n"
