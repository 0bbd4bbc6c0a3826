"""Names and values that MLflow takes."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastkernels.bench.tracking.record import as_metrics, as_params, as_tags, legal_key, of_environment, scenario_key


@pytest.fixture(scope="module")
def validate():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.utils import validation
    return validation


@pytest.mark.parametrize(("scenario", "key"), [
    ("rms_norm[llama31-8b-tp1-s512]", "rms_norm/llama31-8b-tp1-s512/speedup"),
    ("rms_norm[qwen2.5-7b-tp2-s1-residual]", "rms_norm/qwen2.5-7b-tp2-s1-residual/speedup"),
    ("plain", "plain/speedup")])
def test_a_scenario_names_its_metrics_with_slashes(scenario, key):
    assert scenario_key(scenario, "speedup") == key


@pytest.mark.parametrize("name", ["e2e_speedup", "a/b", "p99.9 ms", "x:y", "a-b"])
def test_a_legal_name_stays(name):
    assert legal_key(name) == name


@given(st.text())
def test_mlflow_takes_every_name(validate, name):
    validate._validate_metric_name(legal_key(name))
    validate._validate_param_name(legal_key(name))
    assert len(legal_key(name)) <= validate.MAX_ENTITY_KEY_LENGTH


@given(st.text(), st.text())
def test_two_names_never_become_one(one, other):
    assert (legal_key(one) == legal_key(other)) == (one == other)


@pytest.mark.parametrize(("one", "other"), [
    ("a[b]", "a-b-"), ("a[b]", "a(b)"), ("a//b", "a/b"), ("a/../b", "a/b"), ("", "unnamed"), ("x" * 251, "x" * 252),
    ("ä", "ö"), ("x" * 300, "x" * 250)])
def test_names_that_look_alike_once_they_are_legal_stay_apart(one, other):
    assert legal_key(one) != legal_key(other)


def test_long_values_are_cut_where_mlflow_cuts(validate):
    assert len(as_params({"model": "x" * 9000})["model"]) == validate.MAX_PARAM_VAL_LENGTH
    assert len(as_tags({"why": "x" * 9000})["why"]) == validate.MAX_TAG_VAL_LENGTH


def test_params_are_text_and_empty_ones_are_left_out():
    assert as_params({"level": 1, "cuda_only": True, "tp": [1, 2], "gpu": None, "seed": "", "models": []}) == {
        "level": "1", "cuda_only": "True", "tp": "1,2"}


def test_what_is_no_number_is_named():
    numbers, wrong = as_metrics({"a": 1, "b": "word", "c": None, "d": "2.5", "e": [1]})
    assert numbers == {"a": 1.0, "d": 2.5}
    assert wrong == ["b = 'word'", "c = None", "e = [1]"]


def test_the_environment_becomes_versions_and_commit():
    found = of_environment({"machine": {"cpu": "Xeon"}, "gpu": {"name": "NVIDIA H200"}, "commit": "abc", "dirty": True,
                            "versions": {"torch": "2.13.0", "vllm": None, "triton": "3.7.1"}})
    assert found == {"gpu": "NVIDIA H200", "cpu": "Xeon", "versions": "torch 2.13.0, triton 3.7.1",
                     "commit": "abc-dirty"}


@pytest.mark.parametrize("odd", [{}, {"machine": "fake", "gpu": None, "versions": [1]}, {"error": "broken"}])
def test_an_odd_environment_says_nothing(odd):
    assert as_params(of_environment(odd)) == {}
