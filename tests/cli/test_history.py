"""`fastkernels history`: what is listed, what is the best, and what is refused."""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace

import pytest
from tracked_runs import RUNS, VERSIONS, fill, rms_norm_bench

from fastkernels.bench.tracking import TrackedRun, Tracker
from fastkernels.cli import history, history_tables
from fastkernels.cli.columns import WIDTH
from fastkernels.cli.main import main
from fastkernels.cli.tracked import best_records, ops_of, records
from fastkernels.errors import install_command


@pytest.fixture(scope="module")
def store(tmp_path_factory, tables):
    """A working directory with a filled store, and the ids of its runs by name."""
    directory = tmp_path_factory.mktemp("store")
    return directory, fill(directory, tables)


@pytest.fixture
def ids(store, monkeypatch, tracking_on):
    """Ids of the runs by name; the working directory is theirs."""
    monkeypatch.chdir(store[0])
    return store[1]


@pytest.fixture
def tracking_on(no_tracking, monkeypatch):
    """Tracking, with the store of the working directory."""
    monkeypatch.delenv("FASTKERNELS_TRACKING")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def shown(capsys):
    """A function that returns what `fastkernels history` prints."""
    def run(*words):
        assert main(["history", *words]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


@pytest.fixture
def refused(capsys):
    """A function that returns what `fastkernels history` says as it exits with 4."""
    def run(*words):
        assert main(["history", *words]) == 4
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err

    return run


def cells(table):
    """Rows of a table by the words of its header; columns are two spaces or more apart."""
    header, *lines = [line for line in table.split("\n\n")[0].splitlines() if line]
    names = re.split("  +", header)
    return [dict(zip(names, re.split("  +", line.strip()), strict=True)) for line in lines]


def tracked(**changes):
    """A run of the kernel tier that graded rms_norm."""
    run = TrackedRun("f" * 32, "nightly", "FINISHED", "kernel", "2026-11-25T01:02:03+00:00", 1.0,
                     params={"device": "cuda", "gpu": "NVIDIA H200", "model": "llama31-8b", "level": "1"},
                     metrics={"rms_norm_avg_speedup": 2.0, "rms_norm_passed": 3.0, "rms_norm_failed": 0.0})
    return replace(run, **changes)


def test_recent_runs_of_all_tiers_newest_first(ids, shown):
    rows = cells(shown())
    assert [row["name"] for row in rows] == list(reversed(RUNS))
    assert [row["run"] for row in rows] == [ids[name][:8] for name in reversed(RUNS)]
    by_name = {row["name"]: row for row in rows}
    assert by_name["v2"] | {"run": ""} == {
        "when (UTC)": "2026-11-25 01:01", "tier": "kernel", "name": "v2", "what": "rms_norm tiny L1 tp1",
        "key figures": "2.50x", "passed": "2", "failed": "0", "run": ""}
    assert (by_name["v3"]["what"], by_name["v3"]["passed"], by_name["v3"]["failed"]) == (
        "rms_norm +1 tiny L1 tp1", "2", "1")
    assert by_name["self-test"]["key figures"] == "self-test, 30.0x"
    assert by_name["untimed"]["key figures"] == "-"
    assert by_name["eval"]["key figures"] == "score 0.57, tput 1.20x"
    assert by_name["e2e"]["key figures"] == "5,000 tok/s, lat 1.5 s"
    assert by_name["agent"]["key figures"] == "e2e 1.07x, match 0.998"
    assert (by_name["agent"]["passed"], by_name["agent"]["failed"]) == ("1", "1")


def test_limit_keeps_the_newest(ids, shown):
    assert [row["name"] for row in cells(shown("--limit", "2"))] == ["e2e", "eval"]
    assert [row["name"] for row in cells(shown("--op", "rms_norm", "--limit", "2"))] == ["agent", "untimed"]


def test_tier_filters(ids, shown):
    assert [row["name"] for row in cells(shown("--tier", "eval"))] == ["eval"]
    assert {row["tier"] for row in cells(shown("--tier", "kernel"))} == {"kernel"}


def test_op_lists_what_each_run_found(ids, shown):
    rows = {row["name"]: row for row in cells(shown("--op", "rms_norm"))}
    assert set(rows) == set(RUNS) - {"eval", "e2e"}
    digest = hashlib.sha256(VERSIONS["v1"].encode()).hexdigest()[:12]
    assert rows["v1"] == {
        "when (UTC)": "2026-11-25 01:00", "tier": "kernel", "name": "v1", "model": "tiny L1 tp1", "speedup": "1.50x",
        "error": "0.1", "passed": "2", "failed": "0", "kernel": digest, "device": "Xeon", "run": ids["v1"][:8]}
    assert (rows["wrong"]["error"], rows["wrong"]["passed"], rows["wrong"]["failed"]) == ("77", "2", "1")
    assert rows["untimed"]["speedup"] == "-"
    assert rows["self-test"]["kernel"] == "self-test"
    assert rows["gpu"]["device"] == "NVIDIA H200"
    assert (rows["agent"]["passed"], rows["agent"]["speedup"]) == ("-", "-")


def test_op_finds_runs_that_only_wrote_it(ids, shown):
    assert [row["name"] for row in cells(shown("--op", "silu_and_mul"))] == ["agent", "v3"]


def test_best_is_right_timed_and_no_self_test_on_each_device(ids, shown):
    out = shown("--best")
    digest = {name: hashlib.sha256(VERSIONS.get(name, f"# {name}\n").encode()).hexdigest()[:12] for name in RUNS}
    rows = [(row["operator"], row["device"].split(" vs ")[0], row["speedup"], row["passed"], row["kernel"], row["run"],
             row["of runs"]) for row in cells(out)]
    assert rows == [("rms_norm", "NVIDIA H200", "1.10x", "2", digest["gpu"], ids["gpu"][:8], "1"),
                    ("rms_norm", "Xeon", "2.50x", "2", digest["v2"], ids["v2"][:8], "3")]
    assert out.endswith("\nchosen among 10 records of operators in 8 runs; left out: 2 that graded nothing, "
                        "2 with failures, 1 without timings, 1 of self-tests\n")


def test_best_of_an_operator_that_never_passed_is_refused(ids, refused):
    said = refused("--best", "--op", "silu_and_mul")
    assert "no run can be the best: of 2 records, 1 that graded nothing, 1 with failures." in said


def test_json_has_whole_ids_hashes_and_runs(ids, shown, store):
    data = json.loads(shown("--json", "--limit", "1"))
    assert {key: data[key] for key in ("schema_version", "experiment")} == {
        "schema_version": 1, "experiment": "fastkernels"}
    assert data["tracking_uri"] == f"sqlite:///{store[0]}/mlruns/mlflow.db"
    (run,) = data["runs"]
    assert (run["run_id"], run["tier"], run["metrics"]["tokens_per_second"]) == (ids["e2e"], "e2e", 5000.5)


def test_json_of_an_operator_and_of_the_best(ids, shown):
    data = json.loads(shown("--json", "--op", "rms_norm"))
    assert data["op"] == "rms_norm"
    assert [record["run_name"] for record in data["records"]][-1] == "v1"
    best = {one["device"]: one for one in json.loads(shown("--json", "--best"))["best"]}
    found = best["Xeon"]
    digest = hashlib.sha256(VERSIONS["v2"].encode()).hexdigest()
    assert (found["run_id"], found["kernel_sha256"], found["candidate_sha256"]) == (ids["v2"], digest, digest)
    assert found["speedup"] == pytest.approx(2.5)
    assert (found["chosen_from"], found["passed"], found["most_scenarios"]) == (3, 2, 2)


def test_a_known_operator_of_another_tier_and_a_typo_are_told_apart(ids, refused):
    said = refused("--op", "rmsnorm")
    assert "no tracked run has 'rmsnorm'. Did you mean 'rms_norm'? Tracked: rms_norm, silu_and_mul" in said
    assert "1 tracked run of tier eval, none of which graded or wrote" in refused("--op", "rms_norm", "--tier", "eval")


@pytest.mark.parametrize(("words", "said"), [
    (["--tier", "ev"], "--tier: 'ev' is not one of kernel, e2e, eval, agent. Did you mean 'eval'?"),
    (["--limit", "0"], "--limit: 0 is not a number of runs"),
    (["--limit", "-3"], "--limit: -3 is not a number of runs"),
    (["--best", "--limit", "5"], "--limit has no effect with --best"),
    (["--limit", "many"], "invalid int value: 'many'"),
    (["--bst"], "unrecognized arguments: --bst"),
])
def test_wrong_options_are_refused(ids, refused, words, said):
    assert said in refused(*words)


def test_a_tier_without_runs_names_those_with(tracking_on, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    with Tracker(notify=pytest.fail).start_run("mine", tags={"tier": "e2e"}):
        pass
    assert "--tier: no tracked run of tier agent; there are 1 of e2e" in refused("--tier", "agent")


def test_an_empty_store_says_what_to_do_and_is_not_made(tracking_on, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    for words in ([], ["--best"], ["--op", "rms_norm"], ["--json"]):
        said = refused(*words)
        assert "no tracked run in mlruns/mlflow.db" in said
        assert str(tmp_path) in said
        assert "pytest --fk-target=rms_norm" in said
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_said_so(tracking_on, monkeypatch, refused):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refused
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{address}")
        said = refused()
    assert f"fastkernels history: http://{address}: no answer" in said
    assert "secret" not in said
    assert "Traceback" not in said


def test_a_server_that_stays_silent_is_asked_once(tracking_on, monkeypatch, refused):
    monkeypatch.setattr(history, "ANSWER_TIMEOUT_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "no answer" in refused()
        silent.settimeout(1)
        silent.accept()[0].close()
        with pytest.raises(TimeoutError):
            silent.accept()
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_without_mlflow_the_command_says_what_to_install(tmp_path):
    code = ("import sys, importlib.util\nfind = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name, *a: None if name == 'mlflow' else find(name, *a)\n"
            "from fastkernels.cli.main import main\nsys.exit(main(['history']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr == ("fastkernels history: tracked runs are kept with mlflow, which is not installed: "
                           f"{install_command('mlflow')}\n")


def test_a_reader_that_has_had_enough_is_no_error(ids):
    command = ("from fastkernels.cli.main import main; import sys; sys.stdin.read(); sys.exit(main(['history']))")
    process = subprocess.Popen([sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


def test_the_help_names_defaults(capsys):
    assert main(["history", "--help"]) == 0
    assert "(default: 20)" in " ".join(capsys.readouterr().out.split())


def test_best_looks_beyond_the_latest_hundred(tracking_on, tmp_path, monkeypatch, shown):
    monkeypatch.chdir(tmp_path)
    tracker = Tracker(notify=pytest.fail)
    with tracker.start_run("fastest", started="2026-01-01T00:00:00+00:00"):
        tracker.log_kernel_bench(rms_norm_bench("fastest", 4.0, tokens=(4,)))
    for number in range(101):
        with tracker.start_run(f"later {number}", tags={"tier": "kernel"}):
            tracker.log_metrics({"rms_norm_avg_speedup": 2.0, "rms_norm_passed": 1, "rms_norm_failed": 0})
    best = {one["device"]: one for one in json.loads(shown("--best", "--json"))["best"]}
    assert best["Xeon"]["run_name"] == "fastest"
    assert best[""]["chosen_from"] == 101


def test_equal_speedups_go_to_the_newest_run_and_fewer_scenarios_are_marked():
    small = {"rms_norm_avg_speedup": 2.0, "rms_norm_passed": 1.0, "rms_norm_failed": 0.0}
    found = best_records(records([tracked(run_id="new", metrics=small), tracked(run_id="old")]))
    assert [(one.record.run.run_id, one.chosen_from, one.most_scenarios) for one in found] == [("new", 2, 3)]
    assert [row["passed"] for row in cells("\n".join(history_tables.of_best(found)))] == ["1*"]
    assert history_tables.picked(best_records(records([tracked()]))) == []


def test_other_baselines_are_not_compared():
    slow, fast = ({"baseline_provider.rms_norm": name} for name in ("native", "triton"))
    found = best_records(records([tracked(tags=slow), tracked(tags=fast)]))
    assert [(one.record.baseline, one.chosen_from) for one in found] == [("native", 1), ("triton", 1)]
    assert [row["device"] for row in cells("\n".join(history_tables.of_best(found)))] == [
        "NVIDIA H200 vs native", "NVIDIA H200 vs triton"]


@pytest.mark.parametrize("changes", [
    {"rms_norm_failed": 1.0}, {"rms_norm_passed": 0.0}, {"rms_norm_avg_speedup": float("nan")},
    {"rms_norm_avg_speedup": float("inf")}, {"rms_norm_avg_speedup": 0.0}, {"rms_norm_noisy": 1.0}])
def test_what_is_no_record(changes):
    assert best_records(records([tracked(metrics={**tracked().metrics, **changes})])) == []
    assert best_records(records([tracked(tags={"self_test": "true"})])) == []
    assert len(best_records(records([tracked()]))) == 1


def test_an_error_ratio_that_is_not_finite_is_shown(capsys):
    (record,) = records([tracked(tags={"nonfinite": '{"rms_norm_max_error_ratio": "nan"}'})])
    assert cells("\n".join(history_tables.of_op([record])))[0]["error"] == "NaN"
    (record,) = records([tracked(tags={"nonfinite": '{"rms_norm_max_err...'})])
    assert record.error_ratio is None


def test_a_small_speedup_keeps_its_digits():
    slow = tracked(metrics={**tracked().metrics, "rms_norm_avg_speedup": 0.00321, "avg_speedup": 0.00321})
    assert cells("\n".join(history_tables.of_op(records([slow]))))[0]["speedup"] == "0.00321x"
    assert cells("\n".join(history_tables.recent([slow])))[0]["key figures"] == "0.00321x"


def test_states_other_than_finished_are_shown():
    rows = cells("\n".join(history_tables.recent([tracked(status="KILLED"), tracked(status="RUNNING", metrics={})])))
    assert [row["key figures"] for row in rows] == ["killed", "running"]


def test_no_line_is_too_wide_and_no_name_breaks_the_table():
    long = tracked(name="\x1b[31mred\n" + "n" * 300, tags={"kernel_sha256.rms_norm": "a" * 64},
                   params={"device": "cuda", "gpu": "g" * 200, "model": ",".join(["llama31-70b"] * 40), "level": "1,2"},
                   metrics={f"{'o' * 90}_{name}": value for name, value in
                            (("avg_speedup", 1.0), ("passed", 1.0), ("failed", 0.0))})
    found = records([long])
    tables = [history_tables.recent([long]), history_tables.of_op(found), history_tables.of_best(best_records(found))]
    for lines in tables:
        assert len(lines) == 2
        assert max(map(len, lines)) == WIDTH, lines
        assert "\x1b" not in lines[1]
        assert "f" * 8 in lines[1]


def test_gates_are_no_operators():
    counts = {f"rms_norm_gate_{gate}_{outcome}": 460.0 for gate in ("strided", "compile", "memcheck")
              for outcome in ("passed", "failed")}
    counts |= {"rms_norm_gate_up_passed": 5.0, "rms_norm_gate_up_failed": 1.0}  # an operator may be called so
    run = tracked(metrics={**tracked().metrics, **counts})
    assert ops_of(run) == ("rms_norm", "rms_norm_gate_up")
    [row] = cells("\n".join(history_tables.recent([run])))
    assert (row["what"], row["passed"], row["failed"]) == ("rms_norm +1 llama31-8b L1", "8", "1")
