"""A study on an object store: a real S3 API on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from mlflow import MlflowClient
from moto.server import ThreadedMotoServer

import analysis
import study
from analysis.records.fragments import statuses
from analysis.records.parquet import dataset
from analysis.records.store import open_store, study_root
from study.records.claim import lease
from study.records.compaction import compact
from study.records.verify import put_damaged_aside, verify
from study.records.writer import FragmentWriter, Provenance
from tests.benchmarks.soak.proxy import CUT, LOST, REFUSED, Proxy
from tests.study.made_up_results import result
from trainables.point.errors import ConfigError

SPEC: dict[str, Any] = {
    "study": "far-away",
    "trial": {
        "data": {"name": "synthetic", "dimension": 4, "classes": 3, "train_size": 60},
        "optimizer": {"learning_rate": 0.1},
        "budget": {"epochs": 2},
    },
    "space": {"model.width": {"values": [4, 8]}, "seed": {"range": 2}},
    "resources": {"workers": 1},
}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """HOST:PORT of an S3 server with an empty bucket named bucket."""
    for name, value in {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1").create_bucket(Bucket="bucket")
    yield f"{host}:{port}"
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=10)  # buckets outlive their server in the process
    server.stop()


def objects(endpoint: str) -> list[str]:
    client: Any = boto3.client("s3", endpoint_url=f"http://{endpoint}", region_name="us-east-1")
    return [one["Key"] for one in client.list_objects_v2(Bucket="bucket").get("Contents", ())]


@pytest.mark.xdist_group("ray")
def test_a_study_runs_on_s3_and_every_point_once(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = f"s3://bucket/results?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    trial = SPEC["trial"] | {"optimizer": {"learning_rate": "auto"}}
    spec = study.understand(SPEC | {"trial": trial})
    summary = study.run(spec, storage=storage, tracking_uri=tracking)
    assert (summary.counts, summary.ran) == ({"completed": 4}, 4)
    table = analysis.load(summary.root)
    assert len(set(table["key"].to_pylist())) == table.num_rows == 4
    folders = {name.split("/")[2] for name in objects(endpoint) if name.startswith("results/far-away/") and not name.endswith("/")}
    assert folders == {".storage-id", "records", "curves", "spec.yaml", "chosen.json"}  # Tune's own files are gone
    monkeypatch.setattr("study.plan.left_open.answers", None)  # what the spec leaves open was chosen, and is not again
    assert study.run(spec, storage=storage, tracking_uri=tracking).ran == 0
    assert summary.mirror is not None
    summary.mirror.log_artifacts([tmp_path / "mlflow.db"])
    client = MlflowClient(tracking)
    experiment = client.get_experiment_by_name("far-away")
    assert len(client.search_runs([experiment.experiment_id], "tags.`gaplab.kind` = 'point'")) == 4
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "far-away"}  # a database's artifacts lie beside it


def test_fragments_on_s3_are_merged(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a reader that lists them before, and reads them after, finds them in the merged file."""
    writer = FragmentWriter(
        f"s3://bucket/results/far-away?endpoint_override={endpoint}&scheme=http&region=us-east-1", Provenance("far-away", None, "0.1.0")
    )
    for seed in range(5):
        writer([result(seed=seed), result(seed=10 + seed)], "cpu")
    before = [load(writer.root).sort_by("key") for load in (analysis.load, analysis.load_curves)]
    footers = dataset._footers

    def late(*arguments: Any) -> Any:
        compact(writer.root)
        return footers(*arguments)

    monkeypatch.setattr(dataset, "_footers", late)
    assert [load(writer.root).sort_by("key") for load in (analysis.load, analysis.load_curves)] == before
    assert [name.rpartition("/")[0] for name in objects(endpoint) if name.endswith(".parquet")] == [
        "results/far-away/curves/merged",
        "results/far-away/records/merged",
    ]
    assert statuses(writer.root) == dict.fromkeys(before[0]["key"].to_pylist(), "completed")


def test_a_store_that_fails_now_and_then_costs_nothing(endpoint: str) -> None:
    """It answers 503, cuts connections, or acts and its answer is lost: requests are repeated, and each fragment is there once."""
    proxy = Proxy(int(endpoint.rpartition(":")[2]))
    root = f"s3://bucket/results/far-away?endpoint_override=127.0.0.1:{proxy.port}&scheme=http&region=us-east-1"
    writer = FragmentWriter(root, Provenance("far-away", None, "0.1.0"))
    for seed, fate in enumerate((REFUSED, CUT, LOST)):
        proxy.fail(fate, 2)
        writer([result(seed=seed)], "cpu")
        assert proxy.failed == 2 * seed + 2
    assert set(statuses(root)) == {result(seed=seed).key for seed in range(3)}
    assert len([name for name in objects(endpoint) if "/records/" in name]) == 3
    proxy.close()


def test_damage_on_s3_is_found_and_put_aside(endpoint: str) -> None:
    writer = FragmentWriter(
        f"s3://bucket/results/far-away?endpoint_override={endpoint}&scheme=http&region=us-east-1", Provenance("far-away", None, "0.1.0")
    )
    for seed in range(3):
        writer([result(seed=seed)], "cpu")
    assert verify(writer.root) == []
    client: Any = boto3.client("s3", endpoint_url=f"http://{endpoint}", region_name="us-east-1")
    victim = next(name for name in objects(endpoint) if f"curves/{result(seed=1).key}" in name)
    raw = bytearray(client.get_object(Bucket="bucket", Key=victim)["Body"].read())
    raw[len(raw) // 2] ^= 1
    client.put_object(Bucket="bucket", Key=victim, Body=bytes(raw))
    (damage,) = verify(writer.root)
    assert damage.keys == (result(seed=1).key,)
    with pytest.warns(UserWarning, match="^1 damaged file was moved to"):
        put_damaged_aside(writer.root)
    kept = victim.replace("/curves/", "/quarantine/curves/")
    assert client.get_object(Bucket="bucket", Key=kept)["Body"].read() == bytes(raw)
    assert statuses(writer.root) == {result(seed=seed).key: "completed" for seed in (0, 2)}
    assert verify(writer.root) == []


@pytest.mark.filterwarnings("ignore:another driver claims")
def test_a_second_driver_on_s3_refuses_and_leaves_the_first_alone(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWAL_SECONDS", 1.5)  # the store tells times in seconds
    storage = f"s3://bucket/results?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    spec = study.understand(SPEC | {"tracking": {"mlflow": False}})
    filesystem, path = open_store(study_root(storage, spec.study))
    with lease.leased(filesystem, path):
        with pytest.raises(ConfigError, match="another gaplab is at work on s3://bucket/results"):
            study.run(spec, storage=storage)
        assert len([name for name in objects(endpoint) if ".drivers/" in name and not name.endswith("/")]) == 1
    assert not [name for name in objects(endpoint) if not name.endswith("/")]


def test_a_storage_that_cannot_be_written_is_named(endpoint: str) -> None:
    storage = f"s3://no-such-bucket/results?endpoint_override={endpoint}&scheme=http&region=us-east-1"
    spec = study.understand(SPEC | {"tracking": {"mlflow": False}})
    with pytest.raises(ConfigError, match="--storage: s3://no-such-bucket/results/far-away"):
        study.run(spec, storage=storage)
    assert objects(endpoint) == []


@pytest.mark.parametrize("uri", ["s3://name:secret@bucket/results", "s3://bucket/results?access_key=a&secret_key=secret"])
def test_a_password_in_a_uri_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError, match="must hold no password") as caught:
        open_store(uri)
    assert "name:secret" not in str(caught.value)
    assert "=secret" not in str(caught.value)
