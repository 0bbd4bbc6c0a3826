"""Sources lie where their names say, and none hides another."""

import json
from hashlib import sha256

from tracked_results import CODE

from fastkernels.bench.tracking.kernel_files import INDEX, KernelFiles, made
from fastkernels.results import KernelSource


def hashed(text):
    return sha256(text.encode()).hexdigest()


def test_a_source_is_kept_byte_for_byte_with_its_hash():
    kept = KernelFiles()
    files = kept.add([made("rms_norm", 1, CODE)])
    assert files["kernels/rms_norm.py"] == CODE.encode()
    assert kept.tags() == {"kernel_sha256.rms_norm": hashed(CODE)}
    assert json.loads(files[INDEX]) == [{"op": "rms_norm", "level": 1, "artifact": "kernels/rms_norm.py", "path": "",
                                         "sha256": hashed(CODE), "versions": []}]


def test_the_same_source_again_is_no_news():
    kept = KernelFiles()
    kept.add([made("rms_norm", 1, CODE)])
    assert kept.add([KernelSource("rms_norm", 1, "c/L1/rms_norm.py", hashed(CODE), CODE)]) == {}


def test_files_of_one_name_do_not_collide():
    files = KernelFiles().add([KernelSource("_common", n, f"c{n}", "", f"level {n}") for n in (0, 1, 2)])
    assert {path: text for path, text in files.items() if path != INDEX} == {
        "kernels/_common.py": b"level 0", "kernels/L1/_common.py": b"level 1", "kernels/L2/_common.py": b"level 2"}
    assert [entry["path"] for entry in json.loads(files[INDEX])] == ["c0", "c1", "c2"]


def test_names_that_differ_in_case_alone_do_not_collide():
    files = KernelFiles().add([made("Norm", 1, "a"), made("norm", 1, "b"), made("NORM", 1, "c")])
    assert {b"a", b"b", b"c"} < set(files.values())
    assert len({path.lower() for path in files}) == 4


def test_a_later_version_leaves_the_earlier_one():
    kept = KernelFiles()
    kept.add([made("rms_norm", 1, "one")])
    files = kept.add([made("rms_norm", 1, "two")])
    files |= kept.add([made("rms_norm", 1, "three")])
    assert files["kernels/rms_norm.py"] == b"three"
    for text in ("one", "two", "three"):
        assert files[f"kernels/versions/rms_norm-{hashed(text)[:12]}.py"] == text.encode()
    assert kept.tags() == {"kernel_sha256.rms_norm": hashed("three")}
    assert len(json.loads(files[INDEX])[0]["versions"]) == 3


def test_a_name_cannot_leave_the_folder():
    paths = KernelFiles().add([made("../../etc/passwd", 1, "x"), made("", 1, "y"), made("a/b", 1, "z")])
    assert all(path.startswith("kernels/") and ".." not in path and path.count("/") == 1 for path in paths)
    assert len(paths) == 4
