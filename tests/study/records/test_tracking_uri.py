"""Where MLflow is: a mistyped address is a sentence at once, without its password, and asking makes nothing."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from study.records.tracking import tracking_uri
from study.records.tracking.tracking_uri import check_reachable, default_tracking_uri
from trainables.point.errors import ConfigError


def test_the_default_database_lies_in_local_storage(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_tracking_uri("results") == f"sqlite:///{tmp_path}/results/mlflow.db"
    assert default_tracking_uri("s3://bucket/results") is None


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("http://127.0.0.1:9", "no MLflow server answers at http://127.0.0.1:9"),
        ("sqlite:////no/such/folder/mlflow.db", "there is no folder /no/such/folder"),
        ("postgresql+nothing://me:secret@127.0.0.1:9/mlflow", r"cannot open .*me:\*\*\*@"),
        ("mlruns", "'mlruns' is no server or database"),
        ("", "'' is no server or database"),
        ("nonsense://", "cannot open nonsense://"),
    ],
)
def test_an_unreachable_server_is_a_sentence_without_its_password(uri, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        check_reachable(uri)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_there_may_be_slow(monkeypatch):
    class Slow(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(0.6)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    monkeypatch.setattr(tracking_uri, "_CONNECT_SECONDS", 0.3)
    with HTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        check_reachable(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_a_file_that_is_no_database_is_a_sentence(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database at all, but long enough to have a header" * 10)
    with pytest.raises(ConfigError, match="cannot open"):
        check_reachable(f"sqlite:///{tmp_path}/mlflow.db")


def test_asking_makes_nothing(tmp_path):
    check_reachable(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []
