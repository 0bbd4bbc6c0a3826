"""A candidate's hash covers what its code can read beside it, and not what other operators' code is."""

import os

import pytest

from fastkernels.registry import beside

ADD = "class Add:\n    def __init__(self, n, eps=1e-6, dtype=None): ...\n    def forward(self, x, y=None): ...\n"
SCALE = "class Scale:\n    def forward(self, x, *, by=2): ...\n"


@pytest.fixture
def loaded(trees):
    """Candidates of two operators; the first says what it reads."""
    def write(code=""):
        trees.candidate("L1/add.py", f"{code}\n{ADD}")
        trees.candidate("L1/scale.py", SCALE)
        return trees
    return write


def both(trees):
    graph = trees.graph()
    return graph.sha256("L1.add"), graph.sha256("L1.scale")


@pytest.mark.parametrize("path", ["L1/_csrc/silu.cu", "L1/_csrc/common/types.cuh", "include/tiles.h", "L1/tables.pt",
                                  "L1/libkernel.so", "L1/.hidden.cu", "L1/tune.json", "L1/.hidden.py"])
def test_every_file_that_is_no_module_counts(loaded, path):
    trees = loaded()
    without = both(trees)
    trees.candidate(path, b"\x00one")
    one = both(trees)
    trees.candidate(path, b"\x00two")
    two = both(trees)
    assert all(len({a, b, c}) == 3 for a, b, c in zip(without, one, two, strict=True))
    trees.candidate(path, b"\x00one")
    assert both(trees) == one
    (trees.directory / path).rename(trees.directory / f"{path}.x")
    assert both(trees) not in (without, one)


@pytest.mark.parametrize("path", ["L1/__pycache__/add.cpython-311.pyc", ".git/index", "build/lib.so", ".venv/a/b.txt",
                                  "L1/_csrc/build/x.o", "L1/.add.py.swp", "L1/silu.cu~"])
def test_caches_and_leftovers_do_not(loaded, path):
    trees = loaded()
    before = both(trees)
    trees.candidate(path, "x")
    assert both(trees) == before


def test_a_build_folder_counts_for_whoever_names_it(loaded):
    trees = loaded("LIBRARY = 'build/lib.so'")
    before = both(trees)
    trees.candidate("build/lib.so", "x")
    after = both(trees)
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize("code", [
    "spec = spec_from_file_location('m', Path(__file__).with_name('_gen.py'))",
    "import sys; sys.path.insert(0, HERE); import _gen",
    "exec('from . import _gen')",
    "for path in HERE.glob('*'): exec(path.read_text())",
    "module = import_module(f'.{NAME}', __package__)",
    "text = open(HERE / f'_{kind}.py').read()",
    "from os import listdir\nlistdir(HERE)",
])
def test_python_that_is_read_by_path_counts_where_it_is_read(loaded, code):
    trees = loaded(code)
    trees.candidate("L1/_gen.py", "from . import _deep\nX = 1\n")
    trees.candidate("L1/_deep.py", "X = 1\n")
    first = both(trees)
    trees.candidate("L1/_gen.py", "from . import _deep\nX = 2\n")
    second = both(trees)
    trees.candidate("L1/_deep.py", "X = 2\n")
    third = both(trees)
    assert len({first[0], second[0], third[0]}) == 3
    assert first[1] == second[1] == third[1]


def test_another_operators_own_file_does_not_count(loaded):
    trees = loaded('"""Not like scale.py."""\nfrom os.path import dirname\nHERE = dirname(__file__)')
    before = both(trees)
    trees.candidate("L1/scale.py", f"{SCALE}\n")
    assert both(trees)[0] == before[0]
    trees.candidate("L1/add.py", f"OTHER = 'scale.py'\n{ADD}")
    before = both(trees)
    trees.candidate("L1/scale.py", SCALE)
    assert both(trees)[0] != before[0]


def test_links_that_leave_the_directory_are_followed(loaded, tmp_path):
    trees = loaded()
    (tmp_path / "outside").mkdir()
    target = tmp_path / "outside" / "silu.cu"
    target.write_text("one")
    (trees.directory / "L1" / "_csrc").symlink_to(tmp_path / "outside")
    (trees.directory / "L1" / "again").symlink_to(trees.directory)  # goes round
    (trees.directory / "L1" / "nothing").symlink_to(tmp_path / "gone")
    os.mkfifo(trees.directory / "L1" / "pipe")
    before = both(trees)
    target.write_text("two")
    assert both(trees)[0] != before[0]


def test_a_large_file_counts_by_samples_and_its_time_of_change(loaded, monkeypatch):
    monkeypatch.setattr(beside, "WHOLE_BYTES", 100)
    monkeypatch.setattr(beside, "SAMPLE_BYTES", 2)
    trees = loaded()
    path = trees.candidate("L1/weights.bin", bytes(1000))
    os.utime(path, ns=(1, 1))
    before = both(trees)
    trees.candidate("L1/weights.bin", bytes(999) + b"1")
    os.utime(path, ns=(1, 1))
    changed = both(trees)
    os.utime(path, ns=(1, 2))
    assert len({before, changed, both(trees)}) == 3


def test_a_candidate_without_other_files_keeps_its_hash(loaded):
    """Records of earlier versions are found again."""
    assert [digest[:16] for digest in both(loaded())] == ["6aaaa0fa84d39f49", "31d70f2633f3f826"]
