"""Reading runs from results files, gzipped or not, and what is refused."""

import gzip

import pytest

from fastkernels.errors import ReportError, ResultsError
from fastkernels.report import read_run
from fastkernels.results import LeftOut, write_result


@pytest.fixture
def plain(tmp_path, graded, run_of, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_result(tmp_path / "kernels.json", run_of(graded()))
    return tmp_path / "kernels.json"


def test_a_gzipped_file_reads_like_a_plain_one(plain):
    packed = plain.with_name("kernels.json.gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_run(packed).result == read_run(plain).result
    assert (read_run(packed).name, read_run(plain).name) == ("kernels.json.gz", "kernels.json")


@pytest.mark.parametrize(("content", "said"), [
    (b"{}", "no gzip"),
    (gzip.compress(b"{}" * 999, mtime=0)[:-9], "no gzip"),  # the time of packing would be part of the test's name
    (gzip.compress(b"{", mtime=0), "no JSON"),
    (gzip.compress(b'{"schema_version": 99}', mtime=0), "schema_version: 99 is not 1"),
])
def test_a_broken_gzipped_file_is_named_as_the_user_named_it(tmp_path, content, said):
    path = tmp_path / "old.json.gz"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=said) as error:
        read_run(path)
    assert str(error.value).startswith(f"{path}: ")


def test_an_absent_gzipped_file_is_named(tmp_path):
    with pytest.raises(ResultsError, match=r"absent\.json\.gz: No such file"):
        read_run(tmp_path / "absent.json.gz")


@pytest.mark.parametrize(("left_out", "said"), [((), "nothing to report$"),
                                                ((LeftOut("a", "b"),) * 2, "2 scenarios were left out")])
def test_a_run_without_results_is_refused(tmp_path, run_of, left_out, said):
    write_result(tmp_path / "kernels.json", run_of(left_out=left_out))
    with pytest.raises(ReportError, match=f"kernels.json: results: none.*{said}"):
        read_run(tmp_path / "kernels.json")
