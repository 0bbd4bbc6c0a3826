"""The script on mutants: they apply, say what they change, and are reported as what the grader found them to be."""

import ast
import json
from dataclasses import replace

import pytest

from benchmarks import mutation_score
from benchmarks.mutants import domain, table
from benchmarks.mutants.explained import EXPLAINED, Explained
from benchmarks.mutants.generic import Text, edits, generic_mutants, thinned
from benchmarks.mutants.grading import Graded, grade_all
from benchmarks.mutants.mutant import Mutant, described, different, read_baseline
from benchmarks.mutants.scenarios import MODELS, WINDOW, graded_by, shrunk_config, small_scenarios
from fastkernels.bench.kernels import GraderSettings

EXAMPLE = '''
def forward(self, x: torch.Tensor, y=3, *, keep: bool = True):
    """Text with 1 < 2."""
    if y is None:
        raise ValueError("1 + 1")
    x = x.clamp(min=2, max=self.limit)
    for part in range(4):
        x += self.scale(x, y)
    used = x[1:-1, : y] >= 0.5
    check_choice("a", y, "b")
    return used, (x if keep else -y)
'''


def changes(text):
    """(kind, line after) of every edit of one function."""
    source = text.encode()
    function = ast.parse(source).body[0]
    return [(kind, described(source, edit).partition(" => ")[2]) for kind, edit in edits(function, Text(source))]


def graded(verdict, change="a: b => c", module="L1.rms_norm", kind="wrong eps", origin="domain", message=""):
    return Graded(module, kind, change, origin, verdict, "rms_norm[x]", message, 1)


def test_rules_change_expressions_and_statements():
    assert sorted(changes(EXAMPLE)) == sorted([
        ("dropped statement", "pass"),
        ("dropped call", "x = x"),
        ("dropped argument", "x = x.clamp(max=self.limit)"),
        ("dropped argument", "x = x.clamp(min=2)"),
        ("wrong constant", "x = x.clamp(min=3, max=self.limit)"),
        ("wrong constant", "for part in range(5):"),
        ("dropped statement", "pass"),
        ("swapped arguments", "x += self.scale(y, x)"),
        ("wrong comparison", "used = x[1:-1, : y] > 0.5"),
        ("wrong bound", "used = x[1 + 1:-1, : y] >= 0.5"),
        ("wrong bound", "used = x[1:-1 - 1, : y] >= 0.5"),
        ("wrong bound", "used = x[1:-1, : y - 1] >= 0.5"),
        ("wrong constant", "used = x[1:-1, : y] >= 0.55"),
        ("wrong constant", "used = x[2:-1, : y] >= 0.5"),
        ("swapped results", "return (x if keep else -y, used)"),
        ("wrong branch", "return used, (x if True else -y)"),
        ("wrong branch", "return used, (x if False else -y)"),
        ("dropped sign", "return used, (x if keep else y)"),
    ])


def test_rules_leave_kernels_and_cuda_paths_alone():
    for module in ("L1.rms_norm", "L1.flash_attn_decode", "L1.moe_grouped_gemm"):
        names = {mutant.change.partition(":")[0] for mutant in generic_mutants(module)}
        assert names <= {"forward_native", "begin", "rows_of_experts"}, names


def test_mutants_are_python_with_names_of_their_own():
    mutants = mutation_score.mutants_of(mutation_score.modules(), "cpu", every=True)
    mutants += [mutant for mutant in domain.domain_mutants() if mutant.cuda_only]
    for mutant in mutants:
        compile(mutant.source, mutant.id, "exec")
        assert mutant.source != read_baseline(mutant.module).decode()
    assert len({mutant.id for mutant in mutants}) == len(mutants) == len(different(mutants))
    assert len(mutants) > 200


def test_every_explanation_names_a_mutant():
    mutants = mutation_score.mutants_of(mutation_score.modules(), "cpu", every=True)
    assert EXPLAINED.keys() <= {mutant.id for mutant in mutants}


def test_hand_written_mutants_that_no_longer_apply_are_errors(monkeypatch):
    rows = (("L1.rms_norm", "wrong eps", "no such text", "x"), ("L1.rms_norm", "wrong eps", "self", "x"))
    monkeypatch.setattr(domain, "CPU", rows)
    domain.domain_mutants.cache_clear()
    try:
        with pytest.raises(ValueError, match="'no such text' stands there 0 times") as caught:
            domain.domain_mutants()
        assert "L1.rms_norm, wrong eps: 'self' stands there 12 times, not once" in str(caught.value)
    finally:
        monkeypatch.undo()
        domain.domain_mutants.cache_clear()


def test_a_few_are_taken_evenly():
    mutants = [Mutant("L1.a", "k", str(number), str(number), "generic") for number in range(10)]
    assert [mutant.change for mutant in thinned(mutants, 4)] == ["0", "2", "5", "7"]
    assert thinned(mutants, 10) == mutants


def test_scenarios_reach_every_kind_of_layer():
    scenarios = small_scenarios()
    variants = {scenario.variant for scenario in scenarios["L1.flash_attn_prefill"]}
    assert {"window", "ragged", "chunked", "window_ragged", "window_chunked"} <= variants
    assert {scenario.init["renormalize"] for scenario in scenarios["L1.topk_softmax"]} == {True, False}
    assert {scenario.init["scoring_func"] for scenario in scenarios["L1.grouped_topk"]} == {"softmax", "sigmoid"}
    assert {scenario.phase for scenario in graded_by("L2._attention_block")} == {"decode", "prefill"}


def test_configs_without_a_key_leave_the_default_to_the_code():
    whole, bare = (MODELS[name] for name in ("deepseek-v2-lite", "deepseek-v2-defaults"))
    assert {"rope_scaling", "n_shared_experts", "first_k_dense_replace"} <= shrunk_config(*whole).keys()
    assert not {"rope_scaling", "n_shared_experts", "first_k_dense_replace"} & shrunk_config(*bare).keys()
    scaling = shrunk_config(*MODELS["deepseek-v2-mscale"])["rope_scaling"]
    assert not {"mscale", "mscale_all_dim"} & scaling.keys()
    assert scaling["factor"] > 1
    assert shrunk_config(*MODELS["gemma3"])["text_config"]["sliding_window"] == WINDOW


def test_some_token_counts_are_graded_as_listed():
    assert {scenario.tokens for scenario in graded_by("L1.moe_align")} == {8, 32, 43}
    unsorted = {scenario.tokens for scenario in graded_by("L1.moe_grouped_gemm")
                if all(spec.name != "num_tokens_post_padded" for spec in scenario.inputs)}
    assert unsorted == {1}


def test_the_grader_tells_equal_wrong_and_broken_apart(tmp_path):
    source = read_baseline("L1.silu_and_mul").decode()
    texts = {"equal": ("* up)", "* up + 0.0)"), "wrong": ("gate, up =", "up, gate ="), "broken": ("F.silu(", "F.sliu(")}
    mutants = []
    for name, (old, new) in texts.items():
        assert source.count(old) == 1
        mutants.append(Mutant("L1.silu_and_mul", "k", name, source.replace(old, new), "domain"))
    settings = GraderSettings(device="cpu", timing=False, gates=("none",))
    found = {one.change: one for one in grade_all(mutants, settings, 1)}
    assert {name: one.verdict for name, one in found.items()} == {
        "equal": "passed", "wrong": "wrong_values", "broken": "forward_error"}
    assert found["equal"].scenarios == len(graded_by("L1.silu_and_mul")) > found["wrong"].scenarios == 1
    assert [found[name].survived for name in texts] == [True, False, False]
    assert [found[name].ended for name in texts] == [False, False, True]


def test_scores_leave_equivalent_ones_out(monkeypatch):
    monkeypatch.setitem(EXPLAINED, "L1.rms_norm e", Explained("equal", "The same."))
    monkeypatch.setitem(EXPLAINED, "L1.rms_norm t", Explained("tolerance", "Too little."))
    rows = [graded("wrong_values", "w"), graded("forward_error", "f"), graded("passed", "e"), graded("passed", "t")]
    assert table.counted(rows) == {"mutants": 4, "equivalent": 1, "caught": 2, "ended": 1, "survived": 1,
                                   "score": 2 / 3, "score_of_running": 1 / 2}
    assert table.problems(rows, []) == []
    text = table.report(rows)
    assert "| level 1 | 4 | 1 | 2 | 1 | 1 | 66.7 % | 50.0 % |" in text
    assert "survived: L1.rms_norm t: Too little." in text
    assert "survivors by reason: `equal` 1, `tolerance` 1" in text
    assert table.summary([*rows, graded("passed", "u")])["reasons"] == {"equal": 1, "tolerance": 1, "none": 1}


def test_what_is_wrong_with_an_outcome_is_told(monkeypatch):
    monkeypatch.setitem(EXPLAINED, "L1.rms_norm e", Explained("equal", "The same."))
    rows = [graded("passed", "u"), graded("wrong_scale", "e"), graded("task_invalid", "i", message="why")]
    found = table.problems(rows, [graded("wrong_values", "unchanged", message="off")])
    assert found == [
        "the unchanged copy of L1.rms_norm was not passed: wrong_values at rms_norm[x]: off",
        "survived and is not explained: L1.rms_norm u",
        "the table says that this survives, but it was caught (wrong_scale): L1.rms_norm e",
        "not graded: L1.rms_norm i: rms_norm[x]: why",
    ]
    assert table.problems([graded("passed", "e")], [graded("passed", "unchanged")]) == []


def test_survivors_are_read_back(tmp_path):
    path = tmp_path / "score.json"
    rows = [graded("passed", "p"), graded("crashed", "c")]
    path.write_text(json.dumps({"mutants": [vars(row) for row in rows]}))
    assert mutation_score.survivors_in(path) == {"L1.rms_norm p"}
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"--only-survivors: .*score\.json holds no earlier run"):
        mutation_score.survivors_in(path)


def test_a_log_keeps_what_was_graded(tmp_path):
    mutants = [Mutant("L1.rms_norm", "k", name, name, "domain") for name in ("same", "other")]
    path = tmp_path / "log"
    rows = [graded("crashed", "same"), graded("passed", "other"), graded("passed", "gone")]
    rows[0] = replace(rows[0], sha256=mutants[0].sha256)
    rows[1] = replace(rows[1], sha256="of an earlier text")
    path.write_text("".join(json.dumps(vars(row)) + "\n" for row in rows))
    assert mutation_score.read_log(path, mutants) == {"L1.rms_norm same": rows[0]}
    assert mutation_score.read_log(tmp_path / "none", mutants) == {}
    path.write_text('{"other": 1}\n')
    with pytest.raises(ValueError, match="log:1: no row of this script"):
        mutation_score.read_log(path, mutants)


def test_typos_are_told(capsys):
    for words, message in ((["--op", "rms_nrom"], "Did you mean 'rms_norm'?"), (["--level", "4"], "4 is not one of"),
                           (["--jobs", "0"], "--jobs: 0 is not 1 or more")):
        with pytest.raises(SystemExit):
            mutation_score.parse(words)
        assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match="no module rms_norm at level 2"):
        mutation_score.selected(mutation_score.parse(["--op", "rms_norm", "--level", "2"]))


def test_what_runs_where():
    mutant = Mutant("L1.rms_norm", "k", "c", "s", "domain")
    assert mutant.devices == ("cpu",)
    assert replace(mutant, cuda_only=True).devices == ("cuda",)
    assert replace(mutant, module="L2.attention").devices == ("cpu", "cuda")
