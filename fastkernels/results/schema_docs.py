"""Writes docs/results.schema.json and docs/results-format.md: `python -m fastkernels.results.schema_docs`."""

import json
from pathlib import Path
from typing import Any

from fastkernels.results import gates, kernel, noise
from fastkernels.results.files import field_docs, json_schema

INTRODUCTION = """# Results format

One run of the kernel tier writes one JSON file (`--fk-output-json`, default `bench/results/kernels.json`) in the form
`KernelBenchResult`, and beside it, as it goes, a log with one line per finished scenario
(`{"conditions": ..., "result": ScenarioResult}`), which `--fk-resume` reads. Times are in seconds. NaN and infinities,
which JSON does not have, are the words `"NaN"`, `"Infinity"`, `"-Infinity"`.

- JSON schema: [results.schema.json](results.schema.json) (draft 2020-12).
- Reading in Python: `fastkernels.results.read_result(path)`; another `schema_version` or form raises
  `ResultsError`.
- `schema_version` rises when a field changes its meaning or goes; new fields with a default keep it, and readers pass
  over fields that they do not know.
- Texts are plain: colours are taken off, and what no terminal, XML file or UTF-8 holds (control characters, lone
  surrogates) stands in words, such as `\\x1b`.
- Each address stands once in `results`.
- A `timing` exists only where the outputs were right (`passed`, `too_slow`). Where the machine was too busy for
  one there is `noise` in its place, and tables say `noisy`; it counts in no mean, no record and no comparison of times.
- A log line is kept by a resumed run where `conditions` (hash of settings and of every candidate file that the operator
  reaches) and `shape_key` are equal.

This page and the schema are generated from the docstrings of `fastkernels/results/kernel.py`:
`python -m fastkernels.results.schema_docs`.
"""

FORMS = (kernel.KernelBenchResult, kernel.ScenarioResult, kernel.Correctness, kernel.WorstElement, kernel.Timing,
         noise.Noise, gates.GateResult, kernel.LeftOut, kernel.Subsumed, kernel.KernelSource)


def page() -> str:
    """The page on the results format."""
    parts = [INTRODUCTION]
    for form in FORMS:
        rows = [f"| `{name}` | {_type(form, name)} | {doc} |" for name, doc in field_docs(form).items()]
        parts.append("\n".join([f"## {form.__name__}\n", f"{_summary(form)}\n", "| field | type | meaning |",
                                "|---|---|---|", *rows, ""]))
    parts += [_words(words, head) for words, head in
              ((gates.Gate, "gate"), (gates.GateOutcome, "outcome"), (kernel.Verdict, "verdict"))]
    return "\n".join(parts)


def main(docs: Path | None = None) -> None:
    """Write both files."""
    folder = docs or Path(__file__).resolve().parents[2] / "docs"
    (folder / "results.schema.json").write_text(json.dumps(json_schema(), indent=1) + "\n")
    (folder / "results-format.md").write_text(page())


def _words(words: type[Any], head: str) -> str:
    rows = [f"| `{name.lower()}` | {doc} |" for name, doc in field_docs(words).items()]
    return "\n".join([f"## {words.__name__}\n", f"{_summary(words)}\n", f"| {head} | meaning |", "|---|---|",
                      *rows, ""])


def _summary(form: type[Any]) -> str:
    return (form.__doc__ or "").strip()


def _type(form: type[Any], name: str) -> str:
    kind = form.__dataclass_fields__[name].type
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    for module in ("fastkernels.results.kernel.", "fastkernels.results.gates.", "fastkernels.results.noise.",
                   "typing."):
        text = text.replace(module, "")
    return f"`{text.replace('|', 'or')}`"


if __name__ == "__main__":
    main()
