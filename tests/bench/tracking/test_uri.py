"""Where runs are kept."""

import pytest

from fastkernels.bench.tracking import local_store, shown_uri, tracking_uri
from fastkernels.bench.tracking.uri import local_file


def test_by_default_it_is_a_file_in_mlruns_of_the_working_directory(on):
    assert tracking_uri() == f"sqlite:///{on}/mlruns/mlflow.db"
    assert local_file(tracking_uri()) == local_store() == on / "mlruns" / "mlflow.db"


def test_another_directory_can_be_named(on):
    assert local_file(tracking_uri(on / "other")) == on / "other" / "mlruns" / "mlflow.db"


@pytest.mark.parametrize("name", ["a b", "50%", "a%20b", "a?b#c", "größe"])
def test_any_directory_name_survives_the_uri(on, name):
    assert local_file(tracking_uri(on / name)) == on / name / "mlruns" / "mlflow.db"


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "postgresql://user@host/db", "sqlite:////abs/x.db"])
def test_the_variable_is_taken_as_it_is(on, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_uri() == uri


def test_a_relative_database_becomes_absolute(on, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine.db")
    assert tracking_uri() == f"sqlite:///{on}/mine.db"


@pytest.mark.parametrize(("uri", "text"), [
    ("http://me:secret@host:5000/x", "http://host:5000/x"), ("http://host", "http://host"),
    ("postgresql://me:se%40cret@host/db", "postgresql://host/db")])
def test_a_password_is_not_shown(uri, text):
    assert shown_uri(uri) == text


def test_the_local_store_is_shown_by_its_path(on):
    assert shown_uri(tracking_uri()) == "mlruns/mlflow.db"
