"""The quick reader gives what PyYAML gives, and leaves to it what is not plain."""

import pytest
import yaml
from suite import exhaustive

from fastkernels.manifest.loader import default_path
from fastkernels.manifest.quick_yaml import NotPlainError, load_plain

PLAIN = [
    "a: 1", "a: [1, 2.5, 1.0e-05, 1e-05, true, no, null, ~, '', 'yes', 0x1F, 017, 1_000]", "- a\n- {b: [c]}",
    "d: 2026-11-25", "a: &x {b: 1}\nc: *x", "a: &x [1]\nb: [*x, *x]", "k: &v 3\nl: *v", "3", "'a'", "a:",
    "a: |\n  two\n  lines\n", "# with a comment\na: 1", "3: a\n2.5: b\ntrue: c",
]
NOT_PLAIN = [
    "a: !!python/object:os.system ls", "a: !!str 3", "a: 1\na: 2", "a: [1", "*x", "--- a\n--- b", "<<: {a: 1}",
    "? [a, b]\n: c", "a: &x {b: 1}\nc: {<<: *x}", "\ta: 1", "a: 2026-13-45", "",
    "# only a comment", "1: a\ntrue: c",
]


@pytest.mark.parametrize("loader", ["CSafeLoader", *exhaustive("SafeLoader")])  # the second takes 3 s
def test_the_shipped_manifest_reads_alike_and_shares_what_is_aliased(loader):
    text = default_path().read_text(encoding="utf-8")
    found = load_plain(text)
    assert found == yaml.load(text, getattr(yaml, loader))
    attention = found["operators"]["attention"]["scenarios"][0]
    assert any(attention["context"] is context for context in found["contexts"].values())


@pytest.mark.parametrize("text", PLAIN)
def test_plain_text_reads_alike(text):
    assert repr(load_plain(text)) == repr(yaml.safe_load(text))


@pytest.mark.parametrize("text", NOT_PLAIN)
def test_all_else_is_left_to_pyyaml(text):
    with pytest.raises(NotPlainError):
        load_plain(text)
