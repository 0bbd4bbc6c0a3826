"""`fastkernels report`: inputs, outputs and what is refused."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from results_by_hand import passed

from fastkernels.cli.main import main
from fastkernels.errors import install_command
from fastkernels.results import KernelBenchResult, write_result


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    """bench/results/kernels.json in the working directory, and an older run beside it."""
    monkeypatch.chdir(tmp_path)
    run = KernelBenchResult(results=(passed(),), wall_s=1.0)
    write_result(tmp_path / "bench/results/kernels.json", run)
    write_result(tmp_path / "old.json", replace(run, results=(passed(), passed(id="a[b-tp1-s1]", op="a"))))
    return tmp_path


def refused(capsys, *words):
    """What `fastkernels report` says as it exits with 4."""
    assert main(["report", *words]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_by_default_the_latest_results_become_a_page_beside_them(results, capsys):
    assert main(["report"]) == 0
    page = (results / "bench/results/report.html").read_text(encoding="utf-8")
    assert "bench/results/kernels.json" in page
    size = len(page.encode()) / 1e6
    assert capsys.readouterr().out == f"bench/results/report.html: 1 scenario, {size:.2f} MB\n"


def test_output_names_the_page(results):
    assert main(["report", "old.json", "--output", "new.html"]) == 0
    assert "2 scenarios passed" in (results / "new.html").read_text(encoding="utf-8")
    assert not (results / "report.html").exists()


def test_several_results_are_compared_first_with_last(results, capsys):
    assert main(["report", "old.json", "bench/results/kernels.json"]) == 0
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "<h1>Worse: 1 gone (a)</h1>" in page
    assert "1 scenario: 1 passed, bench/results/kernels.json" in page
    assert 'id="diff"' in page
    assert "1 scenario of bench/results/kernels.json, compared with old.json" in capsys.readouterr().out


def test_the_help_names_defaults(capsys):
    assert main(["report", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "(default: bench/results/kernels.json)" in said
    assert "(default: report.html beside the first results file)" in said


def test_absent_default_results_are_said_with_what_makes_them(results, capsys):
    (results / "bench/results/kernels.json").unlink()
    said = refused(capsys)
    assert "bench/results/kernels.json: no such file" in said
    assert "fastkernels kernels --help" in said


@pytest.mark.parametrize(("content", "said"), [
    (None, "x.json: No such file or directory"),
    ("{", "x.json: no JSON"),
    ("[]", "x.json: schema_version: None is not 1"),
    ('{"schema_version": 2}', "x.json: schema_version: 2 is not 1"),
    ('{"schema_version": 1}', "x.json: results: Field required"),
    ('{"schema_version": 1, "results": []}', "x.json: results: none"),
])
def test_results_that_cannot_be_read_are_refused(results, capsys, content, said):
    if content is not None:
        (results / "x.json").write_text(content)
    assert said in refused(capsys, "old.json", "x.json")
    assert not (results / "report.html").exists()


def test_a_page_in_no_directory_is_refused(capsys):
    assert "there is no directory absent" in refused(capsys, "old.json", "--output", "absent/a.html")


def test_a_directory_as_page_is_refused(capsys):
    said = refused(capsys, "old.json", "--output", "bench")
    assert "bench is a directory; name a file in it, such as bench/report.html" in said


def test_a_page_never_replaces_results(results, capsys):
    before = (results / "old.json").read_bytes()
    assert "old.json is one of the results files" in refused(capsys, "old.json", "--output", "./bench/../old.json")
    assert (results / "old.json").read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_refused(results, capsys):
    (results / "bench").chmod(0o500)
    try:
        assert "cannot be written: Permission denied" in refused(capsys, "old.json", "--output", "bench/a.html")
    finally:
        (results / "bench").chmod(0o700)


def test_a_page_that_cannot_be_written_is_an_error(results, capsys):
    (results / "loop.html").symlink_to("loop.html")
    assert "loop.html: cannot be written: " in refused(capsys, "old.json", "--output", "loop.html")


@pytest.mark.parametrize("option", ["--ouput", "--out"])
def test_a_wrong_option_is_refused(capsys, option):
    assert f"unrecognized arguments: {option}" in refused(capsys, f"{option}=a.html")


def test_without_the_extra_the_command_says_what_to_install(results):
    code = ("import sys, importlib.util\nfind = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name, *a: None if name == 'matplotlib' else find(name, *a)\n"
            "from fastkernels.cli.main import main\nsys.exit(main(['report']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=results, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr == ("fastkernels report: reports need matplotlib, which is not installed: "
                           f"{install_command('report')}\n")
