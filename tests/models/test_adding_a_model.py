"""docs/adding-a-model.md shows the files of a family as they are, and they are few."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding-a-model.md").read_text()
SHOWN = re.findall(r"^`(\S+)`, (\d+) lines:\n\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_shows_the_files():
    assert len(SHOWN) == 4
    for path, lines, text in SHOWN:
        assert text == (ROOT / path).read_text(), path
        assert int(lines) == len(text.splitlines())


def test_a_dense_family_is_under_100_lines():
    total = sum(int(lines) for _, lines, _ in SHOWN)
    assert total < 100
    assert f"That is {total} lines in four files" in PAGE
