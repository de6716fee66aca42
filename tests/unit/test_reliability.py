"""docs/reliability.md tells of every test of a fault."""

from pathlib import Path

from tests.faults import reliability

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_the_page_names_every_test_of_a_fault_and_no_other() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| [")]
    told = {
        (row.partition("tests/faults/")[2].partition(".py)")[0], row[3:].partition("]")[0])
        for row in rows
    }
    told = {(module, fault.partition(" (")[0]) for module, fault in told}

    there = {(module, reliability.sentence(name)) for module, name in reliability.tests()}

    assert told == there, "run: make reliability"
