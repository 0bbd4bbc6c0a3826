"""The `fastkernels` command and its `kernels` front."""

import argparse

import pytest

from fastkernels import __version__
from fastkernels.cli import kernels
from fastkernels.cli.main import main
from fastkernels.options import OPTIONS


def options(*words: str) -> list[str]:
    end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser()
    kernels.add_parser(parser.add_subparsers())
    args = parser.parse_args(["kernels", *words[:end]], argparse.Namespace(passed_on=list(words[end + 1:])))
    found = kernels.pytest_options(args)
    return found if kernels.plugin_is_installed() else found[2:]


@pytest.mark.parametrize(("words", "expected"), [
    (["--target", "rms_norm", "silu_and_mul", "--tp", "1", "4"],
     ["--fk-target=rms_norm", "--fk-target=silu_and_mul", "--fk-tp=1", "--fk-tp=4"]),
    (["--model", "llama31", "--category", "llm", "--level", "1,2"],
     ["--fk-level=1,2", "--fk-model=llama31", "--fk-category=llm"]),
    (["--list", "--level", "1"], ["--fk-level=1", "--fk-list"]),
    (["--map"], ["--fk-map"]),
    (["--self-test", "--num-warmup", "3", "--num-runs", "20", "--output-json", "o.json"],
     ["--fk-self-test", "--fk-num-warmup=3", "--fk-num-runs=20", "--fk-output-json=o.json"]),
    (["--target", "rms_norm", "--seqlen", "1", "512", "--", "-n", "8", "--fk-seqlen=512"],
     ["--fk-target=rms_norm", "--fk-seqlen=1", "--fk-seqlen=512", "-n", "8", "--fk-seqlen=512"]),
    (["--model", "qwen3", "--no-timing", "--device", "cpu", "--dump", "d"],
     ["--fk-model=qwen3", "--fk-device=cpu", "--fk-no-timing", "--fk-dump=d"]),
])
def test_options_become_pytests(words, expected):
    assert options(*words) == expected


def test_the_command_has_every_option_of_the_plugin_and_hands_it_on():
    for option in OPTIONS:
        words = [option.word] if option.metavar is None else [option.word, "1"]
        given = [option.flag] if option.metavar is None else [f"{option.flag}=1"]
        assert [word for word in options(*words) if word.startswith(option.flag)][-1:] == given
    parser = argparse.ArgumentParser()
    kernels.add_parser(parser.add_subparsers())
    text = parser._subparsers._group_actions[0].choices["kernels"].format_help()
    assert "--fk-" not in text
    assert "\n  --seqlen TOKENS" in text


def test_without_filters_every_operator_with_a_candidate_is_graded():
    (candidates,) = options()
    assert candidates == f"--fk-candidates={kernels.default_candidates()}"


def test_kernels_runs_pytest_and_returns_its_status(project, monkeypatch, capfd):
    monkeypatch.chdir(project.path)
    args = ["--self-test", "--", "--fk-manifest=tiny.yaml", "-q"]
    assert main(["kernels", *args]) == 0
    assert "self-test: 7 passed" in capfd.readouterr().out
    assert main(["kernels", "--target", "rmsnorm", *args]) == 4
    assert "Did you mean 'rms_norm'?" in capfd.readouterr().err


def test_version_and_overview(capsys):
    assert main(["--version"]) == 0
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"fastkernels {__version__}\n")
    assert "generate-inputs" in out


def test_no_command(capsys):
    assert main([]) == 4


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["kernel"]) == 4
    assert "'kernel' is no command. Did you mean 'kernels'?" in capsys.readouterr().err


def test_an_unknown_option_of_a_command(capsys):
    assert main(["kernels", "--tagret", "rms_norm"]) == 4
    assert "unrecognized arguments" in capsys.readouterr().err
