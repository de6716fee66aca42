"""docs/reliability.md tells of every test of a fault."""

from pathlib import Path

from tests.faults import reliability

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def rows_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| [")]


def test_the_page_names_every_test_of_a_fault_and_no_other() -> None:
    rows = rows_of(PAGE.read_text().partition("## Attacks")[0])
    told = {
        (row.partition("tests/faults/")[2].partition(".py)")[0], row[3:].partition("]")[0])
        for row in rows
    }
    told = {(module, fault.partition(" (")[0]) for module, fault in told}

    there = {(module, reliability.sentence(name)) for module, name, _ in reliability.tests()}

    assert told == there, "run: make reliability"


def test_the_page_names_every_attack_and_no_other_and_each_under_its_point() -> None:
    told = set()
    for part in PAGE.read_text().partition("## Attacks")[2].split("\n### ")[1:]:
        point = int(part.partition(".")[0])
        for row in rows_of(part):
            attack, _, rest = row[3:].partition("](../tests/")
            told.add((rest.partition(")")[0], attack, point))

    there = {
        (path, reliability.sentence(name), point) for path, name, point in reliability.attacks()
    }

    assert told == there, "run: make reliability"
