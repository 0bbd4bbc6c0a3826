import json
import subprocess
import sys

from fastkernels.bench.timing import describe_environment, environment


def test_plain_data_with_versions_and_machine():
    found = describe_environment("cpu")
    assert json.loads(json.dumps(found)) == found
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["fastkernels"]
    assert found["gpu"] is None
    assert found["time"].endswith("+00:00")


def test_what_is_missing_is_none_and_never_an_exception(monkeypatch):
    monkeypatch.setattr(environment, "_run", lambda command: None)
    monkeypatch.setattr(environment, "_read", lambda path: None)
    found = describe_environment("cuda:1")
    assert found["commit"] is None
    assert found["dirty"] is None
    assert set(found["gpu"].values()) == {None}


def test_gpu_answers_are_numbers_where_they_are_numbers(monkeypatch):
    answer = "NVIDIA H200, 143771, 580.159, 1980, 1980, 3201, 38, [N/A], 700.00, P0\n"
    monkeypatch.setattr(environment, "_run", lambda command: answer if command[0] == "nvidia-smi" else None)
    gpu = describe_environment("cuda")["gpu"]
    assert (gpu["name"], gpu["clock_sm_mhz"], gpu["power_w"], gpu["performance_state"]) == (
        "NVIDIA H200", 1980.0, None, "P0")


def test_a_command_that_is_missing_or_fails_gives_none():
    assert environment._run(["no-such-command-of-this-name"]) is None
    assert environment._run([sys.executable, "-c", "raise SystemExit(3)"]) is None


def test_the_supervisors_side_needs_no_torch():
    code = "import sys, fastkernels.bench.timing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
