"""The page of faults is written from the tests that provoke them."""

import json

import fuzzing
import happens_page
import pytest
from happens_page import Fault


def test_every_fault_of_the_suite_has_a_place_on_the_page():
    found = happens_page.faults()
    assert len(found) >= 20
    assert {fault.where for fault in found} == set(happens_page.WHERE)
    assert len({fault.when for fault in found}) == len(found)
    for fault in found:
        assert all(len(text.split()) >= 2 for text in (fault.when, fault.see, fault.kept)), fault.test


def test_rows_are_read_from_the_marks_of_tests_and_from_nothing_else(tmp_path):
    (tmp_path / "test_one.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.happens('Data', when='it rains', see='a cloud', kept='the sun')\n"
        "@pytest.mark.slow\n"
        "def test_rain():\n    pass\n\n"
        "def test_dry():\n    pass\n"
    )
    (tmp_path / "other.py").write_text("@pytest.mark.happens('Data')\ndef test_no():\n    pass\n")
    assert happens_page.faults(tmp_path) == [Fault("Data", "it rains", "a cloud", "the sun", "test_rain")]


def test_a_mark_that_lacks_a_word_is_no_row(tmp_path):
    (tmp_path / "test_one.py").write_text("@pytest.mark.happens('Data', when='w')\ndef test_a():\n    pass\n")
    with pytest.raises(KeyError, match="see"):
        happens_page.faults(tmp_path)


def test_every_place_has_its_table():
    text = happens_page.tables([Fault("Data", "it rains", "a cloud", "the sun", "test_rain")])
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == list(happens_page.WHERE)
    assert "| it rains | a cloud | the sun |" in text


def test_counts_are_sums_over_all_entry_points():
    entry = dict(zip(happens_page.KINDS, (3, 6, 1), strict=True))
    about = {"cases": 10, "ugmm_tutorial": "9.9", "python": "3.11", "torch": "2.7"}
    text = happens_page.counted({**about, "entry points": {"a": entry, "b": entry}})
    assert "made 10 calls of each of 2 functions and classes, with version 9.9" in text
    assert [line for line in text.splitlines() if line.startswith("| d") or line.startswith("| f")] == [
        "| documented result | 6 |",
        "| documented error | 12 |",
        "| fault | 2 |",
    ]


def test_the_last_full_run_was_full_and_found_no_fault():
    assert happens_page.KINDS == (fuzzing.RESULT, fuzzing.ERROR, fuzzing.FAULT)
    report = json.loads(happens_page.REPORT.read_text(encoding="utf-8"))
    entries = report["entry points"]
    assert report["cases"] >= 10_000
    assert len(entries) >= 100
    assert {
        name for name, found in entries.items() if found["fault"] or found["cases"] < report["cases"]
    } == set()
