"""The log keeps what was finished, whatever happened to the process that wrote it."""

import pytest
from results_by_hand import passed, rms_norm

from fastkernels.bench.kernels.log import ResultLog, start_log


@pytest.fixture
def path(tmp_path):
    start_log(tmp_path / "results" / "kernels.jsonl")
    return tmp_path / "results" / "kernels.jsonl"


def test_a_result_is_found_by_another_process_under_equal_conditions_only(path):
    result = passed()
    reader = ResultLog(path)
    assert reader.find(result.id, result.shape_key, "c") is None
    ResultLog(path).append("c", result)
    assert reader.find(result.id, result.shape_key, "c") == result
    assert reader.find(result.id, result.shape_key, "other candidate") is None
    assert reader.find(result.id, "other shape", "c") is None


def test_an_equal_computation_is_found_under_another_address(path):
    result = passed(rms_norm(model="a"))
    ResultLog(path).append("c", result)
    log = ResultLog(path)
    assert log.find_equal(result.shape_key, "c") == result
    assert log.find_equal(result.shape_key, "d") is None


def test_a_torn_last_line_costs_itself_only(path):
    first, second = passed(rms_norm(tokens=1)), passed(rms_norm(tokens=2))
    ResultLog(path).append("c", first)
    with path.open("ab") as file:
        file.write(b'{"conditions":"c","result":{"id":"rms')
    log = ResultLog(path)
    assert log.find(first.id, first.shape_key, "c") == first
    log.append("c", second)
    for reader in (log, ResultLog(path)):
        assert reader.find(first.id, first.shape_key, "c") == first
        assert reader.find(second.id, second.shape_key, "c") == second


@pytest.mark.parametrize("line", ["", "null", "[]", "{}", '{"conditions":"c","result":{"id":"x"}}', "\x00\x00"])
def test_lines_that_are_no_results_are_passed_over(path, line):
    path.write_text(line + "\n")
    ResultLog(path).append("c", passed())
    assert ResultLog(path).find(passed().id, passed().shape_key, "c") == passed()


def test_a_new_run_empties_the_log_and_a_resumed_one_does_not(path):
    ResultLog(path).append("c", passed())
    start_log(path, resume=True)
    assert path.stat().st_size
    start_log(path)
    assert path.stat().st_size == 0


def test_what_is_no_number_survives(path):
    worst = passed().correctness.__class__(float("inf"), float("inf"), 1.0, 0.0, 0.01, 0.016, 1)
    result = passed(correctness=worst, timing=None)
    ResultLog(path).append("c", result)
    assert "Infinity" in path.read_text()
    assert ResultLog(path).find(result.id, result.shape_key, "c") == result
