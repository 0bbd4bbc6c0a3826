"""Deployment gates in a run of pytest: chosen, shown, and required where that is asked for."""

import pytest

FAST = ("--fk-target=rms_norm", "--fk-model=tiny-b")


@pytest.fixture
def gated(project):
    """A run whose scenario of 8 tokens fails the gate `compile`."""
    project.fake(s8="gate compile")
    return project


def test_a_failed_gate_is_shown_and_fails_nothing(gated):
    result = gated.run(*FAST)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["operator *roof gates", "*1/2 compile*", "gate compile failed in 1 scenario, first "
                                 "rms_norm[[]tiny-b-tp1-s8]: forward raised ValueError: not this way"])
    kept = {r["id"]: r["gates"] for r in gated.results()["results"]}
    assert kept["rms_norm[tiny-b-tp1-s8]"]["compile"] == {
        "outcome": "failed", "reason": "forward raised ValueError: not this way"}


def test_no_gate_no_column(project):
    assert "gates" not in project.run(*FAST).stdout.str().partition("= kernels =")[2]


@pytest.mark.parametrize("xdist", [(), ("-n2",)])
def test_a_required_gate_fails_the_test(gated, xdist):
    result = gated.run(*FAST, "--fk-require-gates", "--fk-gates=compile,strided", *xdist)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["gate compile failed: forward raised ValueError: not this way",
                                 "reproduce: *--fk-gates=compile,strided --fk-require-gates*"])


@pytest.mark.parametrize(("options", "says"), [
    (["--fk-gates=cuda_grap"], "ERROR: --fk-gates: 'cuda_grap' is not one of auto, all, none, *Did you mean "
                               "'cuda_graph'?*"),
    (["--fk-gates=all,compile"], "ERROR: --fk-gates: 'all' stands alone, not with compile"),
    (["--fk-gates=none", "--fk-require-gates"], "ERROR: --fk-require-gates has no effect with --fk-gates=none; leave "
                                                "one of them out"),
])
def test_words_that_are_wrong(project, options, says):
    result = project.run(*FAST, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])


def test_the_library_is_given_what_was_chosen(bare):
    bare.run(*FAST, "--fk-device=cpu", "--fk-no-timing", "--fk-gates=compile,strided", "--fk-seqlen=8",
             "--fk-allow-passthrough").assert_outcomes(passed=1)
    found = bare.results()
    assert found["settings"]["gates"] == ["strided", "compile"]
    assert found["settings"]["allow_passthrough"] is True
    assert {name: gate["outcome"] for name, gate in found["results"][0]["gates"].items()} == {
        "strided": "passed", "compile": "passed"}
    assert "--fk-allow-passthrough --fk-gates=compile,strided" in found["results"][0]["reproduce"]
