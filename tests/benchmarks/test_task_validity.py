"""The script on task validity: a planted task that tells nothing is found, each by its own finding."""

import json

import pytest
import torch
from torch import nn

from benchmarks import task_validity
from benchmarks.task_movement import examine, tokens_of
from fastkernels.manifest import Selection, load_manifest
from fastkernels.manifest.scenario import InputSpec, Scenario
from fastkernels.runtime.op import Op

CPU = torch.device("cpu")
X = InputSpec("x", "normal", ("tokens", 64), "bfloat16")
Y = InputSpec("y", "normal", ("tokens", 64), "bfloat16")


def task_of(*inputs, tokens=5):
    return Scenario(op="op", module="op", class_name="Op", level=1, category="test", model="m", model_id="a/m", tp=1,
                    tokens=tokens, phase="decode", variant="", init={}, inputs=inputs)


class Planted(Op):
    """x * weight, or what the test makes of it."""

    def __init__(self, function):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 64).to(torch.bfloat16))
        self._function = function

    def forward_native(self, x, y=None):
        return self._function(self, x, y)


@pytest.mark.parametrize(("function", "found"), [
    (lambda m, x, y: torch.ones_like(x), "output is the same for other inputs"),
    (lambda m, x, y: m.weight.repeat(len(x), 1), "output is the same for other inputs"),
    (lambda m, x, y: x * m.weight * 1e-4, "output lies under the tolerance"),
    (lambda m, x, y: x * m.weight, "no output follows input y"),
    (lambda m, x, y: x * m.weight + 1e-4 * y, "no output follows input y"),
    (lambda m, x, y: x + y, "no output follows weight weight"),
    (lambda m, x, y: x + y + 1e-4 * m.weight, "no output follows weight weight"),
    (lambda m, x, y: ((x + y) * m.weight).mean(0, keepdim=True).repeat(len(x), 1) * 9, "rows of output are alike"),
    (lambda m, x, y: torch.where(torch.arange(64) < 4, (x + y) * m.weight, 0.0), "most of an output lies under"),
], ids=("constant", "input_independent", "under_tolerance", "input_unused", "input_under_tolerance", "weight_unused",
        "weight_under_tolerance", "rows_alike", "mostly_zero"))  # fmt: skip
def test_a_planted_task_is_found(function, found):
    row = examine(Planted(function), task_of(X, Y), CPU)
    assert any(found in finding for finding in row["findings"]), row


def test_a_task_that_follows_everything_passes():
    row = examine(Planted(lambda m, x, y: (x + y) * m.weight), task_of(X, Y), CPU)
    assert row["findings"] == []
    assert set(row["moves"]) == {"input x", "input y", "weight weight"}
    assert all(min(moved) > 1 for moved in row["moves"].values())


def test_weights_are_put_back():
    module = Planted(lambda m, x, y: x * m.weight)
    before = module.weight.clone()
    examine(module, task_of(X), CPU)
    assert torch.equal(module.weight, before)


def test_packed_prompts_get_more_than_a_token_each():
    packed = InputSpec("cu", "cu_seqlens", (9,), "int32", {"total": "tokens", "sequences": 8})
    assert tokens_of(task_of(X, packed, tokens=512)) == 33
    assert tokens_of(task_of(X, tokens=512)) == 5
    assert tokens_of(task_of(X, packed, tokens=1)) == 1


def test_shrinking_leaves_what_a_dot_product_sums():
    linear = next(iter(load_manifest().scenarios(Selection(targets=("linear",), models=("llama31-405b",), tps=(1,)))))
    least = task_validity.shrunk(linear)
    assert least.init["output_size"] <= task_validity.ROWS < linear.init["output_size"]
    assert least.init["input_size"] == linear.init["input_size"]


def test_run_skips_aloud_resumes_and_reports(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--op", "rms_norm", "--output", str(tmp_path / "o.jsonl")])
    few = dict(list(task_validity.tasks_of(load_manifest().scenarios(Selection(targets=("rms_norm",)))).items())[:3])
    monkeypatch.setattr(task_validity, "tasks_of", lambda scenarios: few)
    with pytest.raises(SystemExit) as ended:
        task_validity.main()
    assert ended.value.code == 0
    assert "| rms_norm | 3 | 3 | 0 |" in capsys.readouterr().out
    lines = (tmp_path / "o.jsonl").read_text()
    assert [set(json.loads(line)) >= {"key", "id", "moves", "findings"} for line in lines.splitlines()] == [True] * 3
    with pytest.raises(SystemExit):
        task_validity.main()
    assert (tmp_path / "o.jsonl").read_text() == lines

    monkeypatch.setattr("sys.argv", ["x", "--op", "rms_norm", "--output", str(tmp_path / "p.jsonl"), "--max-mb", "-1"])
    with pytest.raises(SystemExit):
        task_validity.main()
    assert "skipped: 3 tasks: over -1 MB of weights" in capsys.readouterr().out


def test_typos_are_told(tmp_path, capsys):
    with pytest.raises(SystemExit):
        task_validity.parse(["--op", "rms_nrom"])
    assert "Did you mean 'rms_norm'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        task_validity.parse(["--level", "5"])
    assert "5 is not one of 1, 2, 3, 4" in capsys.readouterr().err
    (tmp_path / "o").write_text('{"other": 1}\n')
    with pytest.raises(ValueError, match="o:1: no row of this script"):
        task_validity.read(tmp_path / "o")
