"""Budgets of CI: what the file must say, and which costs are over, far over, or the machine's."""

import pytest
from ci_budgets import BUDGETS, BudgetError, Cost, allowed_cpu_s, findings, known_work, read_budgets, scale, table
from ci_run import NAMES

TEXT = """
total_cpu_s = 100
[reference]
machine = "a machine"
work_cpu_s = 0.5
[parts.one]
cpu_s = 60
wall_s = 30
reason = "why"
[parts.two]
cpu_s = 40
wall_s = 0
reason = "why not"
"""


@pytest.fixture
def budgets(tmp_path):
    return read(tmp_path, TEXT)


def read(folder, text, parts=("one", "two")):
    path = folder / "budgets.toml"
    path.write_text(text)
    return read_budgets(path, parts)


def test_the_projects_file_is_whole_and_gives_every_part_a_budget():
    assert set(read_budgets(BUDGETS, NAMES).parts) == set(NAMES)
    assert sum(part.cpu_s for part in read_budgets(BUDGETS, NAMES).parts.values()) == 1260


@pytest.mark.parametrize(("old", "new", "message"), [
    ("wall_s = 30", "wal_s = 30", "parts.one.wal_s is not one of cpu_s, wall_s, reason"),
    ('reason = "why"\n', "", "parts.one.reason is missing"),
    ('reason = "why"', 'reason = ""', "parts.one.reason = '' is not text"),
    ("cpu_s = 60", "cpu_s = 61", "add up to 101, not to total_cpu_s = 100"),
    ("cpu_s = 60", "cpu_s = 0", "parts.one.cpu_s = 0 is not a number above 0"),
    ("cpu_s = 60", "cpu_s = true", "parts.one.cpu_s = True is not a number above 0"),
    ("wall_s = 0", "wall_s = -1", "parts.two.wall_s = -1 is not a number above 0"),
    ("work_cpu_s = 0.5", "work_cpu_s = '1'", "reference.work_cpu_s = '1' is not a number"),
    ("parts.two", "parts.too", "parts.too is not one of one, two"),
    ("[reference]", "x = 1\n[reference]", "x is not one of total_cpu_s, reference, parts"),
])
def test_what_is_wrong_in_the_file_is_named(tmp_path, old, new, message):
    assert old in TEXT
    with pytest.raises(BudgetError, match=message.replace("(", "\\(")):
        read(tmp_path, TEXT.replace(old, new, 1))


def test_a_part_without_a_budget_is_an_error(tmp_path):
    with pytest.raises(BudgetError, match=r"parts\.three is missing"):
        read(tmp_path, TEXT, ("one", "two", "three"))


def test_over_the_budget_is_said_and_over_twice_the_budget_fails(budgets):
    assert findings(budgets, [Cost("one", 500, 60), Cost("two", 500, 40)]) == ([], [])
    over, failed = findings(budgets, [Cost("one", 1, 61), Cost("two", 1, 10)])
    assert (over, failed) == (["one took 61 CPU s, 1.02 times its budget of 60"], [])
    over, failed = findings(budgets, [Cost("one", 1, 20), Cost("two", 1, 81)])
    assert over == ["the sum took 101 CPU s, 1.01 times its budget of 100"]
    assert failed == ["two took 81 CPU s, 2.02 times its budget of 40"]
    _, failed = findings(budgets, [Cost("one", 1, 120), Cost("two", 1, 81)])
    assert failed[-1] == "the sum took 201 CPU s, 2.01 times its budget of 100"


def test_the_sum_is_held_to_the_budgets_of_the_parts_that_ran(budgets):
    """A run that ended early is not measured by what it did not do."""
    assert allowed_cpu_s(budgets, [Cost("two", 1, 1)]) == 40
    assert findings(budgets, [Cost("two", 1, 81)])[1][-1] == "the sum took 81 CPU s, 2.02 times its budget of 40"


def test_a_slow_machine_has_more_and_a_fast_one_no_less(budgets):
    assert scale(budgets, 0.5, 0.9) == pytest.approx(1.8)
    assert scale(budgets, 0.1, 0.2) == 1
    slow = [Cost("one", 1, 130, 1.8), Cost("two", 1, 50, 1.8)]
    assert findings(budgets, slow) == (["one took 130 CPU s, 1.20 times its budget of 108"], [])
    assert findings(budgets, [Cost("one", 1, 130), Cost("two", 1, 50)])[1]


def test_the_table_shows_what_was_taken_beside_what_may_be(budgets):
    lines = table(budgets, [Cost("one", 20, 66, 1.5), Cost("two", 9, 4)], "counted").splitlines()
    assert lines[1].split() == ["one", "20", "45", "66", "90", "1.50x"]
    assert lines[2].split() == ["two", "9", "0", "4", "40", "1.00x"]
    assert lines[3].split() == ["sum", "20", "45", "70", "130"]  # `two` runs beside `one`: its wall time is no more
    assert "counted" in lines[4]
    assert "a machine" in lines[4]


def test_the_known_work_is_work():
    assert known_work() > 0
