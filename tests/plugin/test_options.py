"""Values, defaults and mistakes on the command line."""

import re
from pathlib import Path

import pytest

from fastkernels.bench.kernels import GraderSettings
from pytest_fastkernels.options import BY_NAME, DEVICES, OPTIONS

DOC = Path(__file__).parents[2] / "docs" / "options.md"


@pytest.mark.parametrize(("args", "message"), [
    (["--fk-tp=x"], "ERROR: --fk-tp: 'x' is not a whole number"),
    (["--fk-tp=1,"], "ERROR: --fk-tp: a value is empty; expected N"),
    (["--fk-tp=3"], "ERROR: tiny.yaml: TP 3 is not one of 1, 2"),
    (["--fk-level=7"], "ERROR: tiny.yaml: level 7 is not one of 1"),
    (["--fk-seqlen=9"], "ERROR: tiny.yaml: token count 9 is not one of 1, 8, 2048"),
    (["--fk-category=lm"], "ERROR: tiny.yaml: category 'lm' is not one of llm. Did you mean 'llm'?"),
    (["--fk-target=rmsnorm"],
     "ERROR: tiny.yaml: operator 'rmsnorm' is not one of rms_norm, silu_and_mul. Did you mean 'rms_norm'?"),
    (["--fk-model=tinny"], "ERROR: tiny.yaml: model 'tinny' starts no name*Did you mean 'tiny-a'?"),
    (["--fk-target=silu_and_mul", "--fk-model=tiny-b"], "ERROR: tiny.yaml: no scenario has all of: *"),
    (["--fk-level=1", "--fk-device=cpux"],
     "ERROR: --fk-device: 'cpux' is not one of auto, cpu, cuda. Did you mean 'cpu'?"),
    (["--fk-level=1", "--fk-device=gpu"],
     "ERROR: --fk-device: 'gpu' is not one of auto, cpu, cuda. Did you mean 'cuda'?"),
    (["--fk-level=1", "--fk-baseline=vllm"], "ERROR: --fk-baseline: vllm is not installed: pip install *"),
    (["--fk-level=1", "--fk-baseline=torch"],
     "ERROR: --fk-baseline: 'torch' is not one of auto, native, vllm. Did you mean 'native'?"),
    (["--fk-level=1", "--fk-baseline=natve"],
     "ERROR: --fk-baseline: 'natve' is not one of auto, native, vllm. Did you mean 'native'?"),
    (["--fk-level=1", "--fk-env=NOT_SET_HERE"], "ERROR: --fk-env: 'NOT_SET_HERE' is not set in the environment*"),
    (["--fk-level=1", "--fk-env=PATH=x"], "ERROR: --fk-env: 'PATH=x' is no name; name a variable*"),
    (["--fk-level=1", "--fk-sandbox=on"],
     "ERROR: --fk-sandbox: 'on' is not one of auto, require, off*"),
    (["--fk-level=1", "--fk-num-runs=0"], "ERROR: --fk-num-runs: 0 is under 1, the least allowed"),
    (["--fk-level=1", "--fk-max-time=-1"], "ERROR: --fk-max-time: -1 is not a finite number over 0"),
    (["--fk-level=1", "--fk-timeout=soon"], "ERROR: --fk-timeout: 'soon' is not a number"),
    (["--fk-level=1", "--fk-min-speedup=nan"], "ERROR: --fk-min-speedup: nan is not a finite number over 0"),
    (["--fk-level=1", "--fk-no-timing", "--fk-num-runs=5"],
     "ERROR: --fk-num-runs has no effect with --fk-no-timing; leave one of them out"),
    (["--fk-list", "--fk-num-runs=5"], "ERROR: --fk-num-runs has no effect with --fk-list; leave one of them out"),
    (["--fk-map", "--fk-resume"], "ERROR: --fk-resume has no effect with --fk-map; leave one of them out"),
    (["--fk-level=1", "--fk-output-json=."], "ERROR: --fk-output-json: * is a directory; expected a file"),
    (["--fk-level=1", "--fk-output-json=tiny.yaml/x.json"], "ERROR: --fk-output-json: cannot write beside *"),
    (["--fk-num-runs=5"], "ERROR: --fk-manifest, --fk-num-runs without effect: no collected test uses *"),
])
def test_a_wrong_value_ends_the_run_before_it_starts(project, args, message):
    result = project.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([re.sub(r"\[", "[[]", message)])
    assert project.graded() == []


def test_a_mistyped_option_names_the_nearest(project):
    result = project.run("--fk-tagret=rms_norm")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --fk-tagret is no option. Did you mean '--fk-target'?*"])


def test_a_wrong_manifest_is_a_usage_error(project):
    path = project.path / "tiny.yaml"
    path.write_text(path.read_text().replace("tokens: [1]", "tokenz: [1]"))
    result = project.run("--fk-level=1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*tiny.yaml: *tokenz*Did you mean 'tokens'?*"])


def test_several_values_by_comma_and_by_repetition(project):
    project.run("--fk-target=rms_norm", "--fk-tp=1", "--fk-tp", "2", "--fk-seqlen=1,8").assert_outcomes(passed=6)


def test_ini_keys_give_defaults_relative_to_the_ini_file(project):
    project.candidate()
    project.pytester.makeini("[pytest]\nfk_candidates = kernels\nfk_manifest = tiny.yaml\nfk_output_json = out.json\n")
    (project.path / "deeper").mkdir()
    project.pytester.chdir()
    result = project.run("--fk-level=1", "--fk-no-timing", manifest=False)
    result.assert_outcomes(passed=6, deselected=2)
    assert {r["self_test"] for r in project.results("out.json")["results"]} == {False}


def test_a_wrong_ini_value_names_the_key(project):
    project.pytester.makeini("[pytest]\nfk_num_runs = many\n")
    project.run("--fk-level=1").stderr.fnmatch_lines(["ERROR: ini key fk_num_runs: 'many' is not a whole number"])


def test_defaults_and_choices_are_the_librarys():
    fields = {"device": "device", "baseline": "baseline", "num_warmup": "num_warmup", "num_runs": "num_runs",
              "max_time": "max_time_s", "timeout": "timeout_s", "min_speedup": "min_speedup"}
    assert {o: BY_NAME[o].default for o in fields} == {o: getattr(GraderSettings, f) for o, f in fields.items()}
    from fastkernels.bench.kernels import settings

    assert DEVICES == settings.DEVICES


def test_every_option_is_in_the_help_and_in_the_document(project):
    text = project.run("--help", manifest=False).stdout.str()
    in_help = set(re.findall(r"--fk-[a-z-]+", text))
    assert in_help >= {option.flag for option in OPTIONS}
    documented = DOC.read_text()
    rows = {flag: line for line in documented.splitlines() for flag in re.findall(r"^\| `(--fk-[a-z-]+)", line)}
    assert set(rows) == {option.flag for option in OPTIONS}
    for option in OPTIONS:
        if option.default not in (None, False):
            assert f"`{option.default}`" in rows[option.flag], option.flag
        assert (f"`{option.dest}`" in rows[option.flag]) == option.ini, option.flag
