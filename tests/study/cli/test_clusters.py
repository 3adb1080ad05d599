"""Cluster files, checked as far as that goes without a cloud: Ray's schema, KubeRay's required fields, a Slurm made of stubs, services
that fit one another."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from ray.autoscaler._private.util import fillout_defaults, validate_config
from ruamel.yaml import YAML
from sqlalchemy import make_url

import study
from study.spec.presets import PRESETS

CLUSTERS = PRESETS.parent / "clusters"
ROOT = CLUSTERS.parents[1]


def documents(name: str) -> list[Any]:
    return list(YAML(typ="safe").load_all((CLUSTERS / name).read_text()))


@pytest.mark.parametrize("name", ["aws", "gcp", "on-premise"])
def test_launcher_files_agree_with_rays_schema(name: str) -> None:
    (written,) = documents(f"{name}.yaml")
    if name == "on-premise":
        from ray.autoscaler._private.local.config import prepare_local

        whole, _ = prepare_local(written)
        validate_config(fillout_defaults(whole))
        return
    validate_config(fillout_defaults(written))
    head, gpu = written["available_node_types"][written["head_node_type"]], written["available_node_types"]["gpu"]
    assert head["resources"]["CPU"] == 0
    assert gpu["resources"]["GPU"] == 1
    assert gpu["min_workers"] == 0 <= gpu["max_workers"] <= written["max_workers"]


@pytest.mark.parametrize("name", ["aws", "gcp", "on-premise"])
def test_the_dashboard_of_a_launched_cluster_is_on_the_heads_loopback(name: str) -> None:
    """Ray fills in what a file leaves out; its own command for AWS and Google Cloud binds the dashboard to every address."""
    config = fillout_defaults(YAML(typ="safe").load((CLUSTERS / f"{name}.yaml").read_text()))
    (start,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    assert start.endswith("--dashboard-host=127.0.0.1")


def test_a_job_on_ones_own_machines_finds_gaplab() -> None:
    config = YAML(typ="safe").load((CLUSTERS / "on-premise.yaml").read_text())
    for command in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [line for line in config[command] if "ray start" in line]
        assert start.startswith("export PATH=/opt/gaplab/.venv/bin:$PATH; "), "a job's command is looked for where Ray was started"


def test_a_mistake_in_a_launcher_file_would_be_seen() -> None:
    (written,) = documents("aws.yaml")
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(fillout_defaults(written | {"idle_timeout": 5}))


def test_the_rayjob_has_what_kuberay_requires_and_a_study_that_is_one() -> None:
    config, job = documents("rayjob.yaml")
    assert study.understand(YAML(typ="safe").load(config["data"]["spec.yaml"])).resources.gpus == 1
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["enableInTreeAutoscaling"] is True
    groups = cluster["workerGroupSpecs"]
    for group in groups:
        assert {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"} <= group.keys()
        assert 0 == group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *groups):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        (container,) = pod["containers"]
        assert {"name", "image", "resources"} <= container.keys()
        assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
        assert container["resources"]["limits"] == container["resources"]["requests"]
    assert groups[0]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    mounted = cluster["headGroupSpec"]["template"]["spec"]["volumes"][0]
    assert mounted["configMap"]["name"] == config["metadata"]["name"]
    words = job["spec"]["entrypoint"].split()
    assert words[:3] == ["gaplab", "run", "/study/spec.yaml"]


STUBS = {
    "scontrol": "printf 'node1\\nnode2\\n'",
    "hostname": "echo 10.0.0.1 10.0.0.2",
    "srun": 'echo "srun $*" >> $CALLS; while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "ray": 'echo "ray $*" >> $CALLS; [[ $1 == start ]] && exec sleep 60; exit 0',
    "gaplab": "trap 'echo interrupted >> $CALLS; exit 130' TERM; "  # before it says that it is there, whereupon it is told to end
    "echo \"gaplab $*\" >> $CALLS; until [[ $(grep -c '^ray start' $CALLS) == 2 ]]; do sleep 0.1; done; "
    "for _ in $(seq ${GAPLAB_TENTHS}); do sleep 0.1; done; exit 7",
}


def slurm_job(folder: Path, tenths: int) -> subprocess.Popen[bytes]:
    """The script, started as Slurm would on two nodes."""
    (folder / "bin").mkdir()
    for name, body in STUBS.items():
        stub = folder / "bin" / name
        stub.write_text(f"#!/bin/bash\n{body}\n")
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    slurm = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_PER_TASK": "16", "SLURM_SUBMIT_DIR": str(folder)}
    ours = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "CALLS": str(folder / "calls"), "GAPLAB_TENTHS": str(tenths)}
    return subprocess.Popen(["bash", str(CLUSTERS / "slurm.sh"), "spec.yaml", "--set", "a=b c"], env={**os.environ, **slurm, **ours})


def calls(folder: Path, awaited: str) -> list[str]:
    for _ in range(300):
        if (folder / "calls").exists() and awaited in (folder / "calls").read_text():
            break
        time.sleep(0.1)
    return (folder / "calls").read_text().splitlines()


def test_the_slurm_script_starts_ray_on_every_node_and_hands_on_the_exit_code(tmp_path: Path) -> None:
    job = slurm_job(tmp_path, 0)
    assert job.wait(300) == 7
    seen = calls(tmp_path, "gaplab")
    assert "ray start --block --num-cpus=16 --head --port=32345 --include-dashboard=false" in seen
    assert "ray start --block --num-cpus=16 --address=10.0.0.1:32345" in seen
    nodes = sorted(line.split()[4] for line in seen if line.startswith("srun") and " ray " in line)  # they start side by side
    assert nodes == ["--nodelist=node1", "--nodelist=node2"]
    assert f"gaplab run spec.yaml --set a=b c --address 10.0.0.1:32345 --storage {tmp_path}/results" in seen


def test_the_slurm_script_lets_gaplab_stop_cleanly_when_time_is_up(tmp_path: Path) -> None:
    job = slurm_job(tmp_path, 600)
    calls(tmp_path, "gaplab run")
    job.send_signal(signal.SIGTERM)
    assert job.wait(300) == 130
    assert calls(tmp_path, "interrupted")[-1] == "interrupted"


def test_the_files_are_written_once_and_never_over_ones_own(gaplab: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "files"
    assert gaplab("cluster-files", str(folder)).code == 0
    names = sorted(path.name for path in CLUSTERS.iterdir())
    assert sorted(path.name for path in folder.iterdir()) == names
    assert {"aws.yaml", "Dockerfile", "Dockerfile.dockerignore", "compose.yaml", "slurm.sh"} <= set(names)
    assert os.access(folder / "slurm.sh", os.X_OK) == os.access(CLUSTERS / "slurm.sh", os.X_OK)
    (folder / "aws.yaml").write_text("mine")
    (folder / "gcp.yaml").unlink()
    again = gaplab("cluster-files", str(folder))
    assert (again.code, again.out) == (2, "")
    assert "aws.yaml" in again.err
    assert (folder / "aws.yaml").read_text() == "mine"
    assert not (folder / "gcp.yaml").exists(), "all or nothing"
    (tmp_path / "file").touch()
    assert "cannot be written" in gaplab("cluster-files", str(tmp_path / "file" / "below")).err


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_the_image_has_what_it_copies_and_says_the_cuda_that_torch_brings() -> None:
    text = (CLUSTERS / "Dockerfile").read_text()
    instructions = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    known = {"FROM", "RUN", "USER", "WORKDIR", "COPY", "CMD"}
    assert {line.split()[0] for line in instructions} == known
    copied = [name for line in instructions if line.startswith("COPY") for name in line.split()[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert {package.name for package in ROOT.iterdir() if (package / "__init__.py").exists()} - {"tests"} <= set(copied)
    cuda = ".".join(pinned()["nvidia-cuda-runtime"].split(".")[:2])
    page = (ROOT / "docs/cluster/docker.md").read_text()
    assert f"bring CUDA {cuda} with them" in text
    assert f"bring CUDA {cuda} with them" in page
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"cluster", "s3"} <= extras.keys()
    (job,) = [one for one in documents("rayjob.yaml") if one["kind"] == "RayJob"]
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned()["ray"]


def test_linters_find_nothing_in_the_image_and_the_scripts() -> None:
    hadolint, shellcheck = Path(sys.executable).with_name("hadolint"), shutil.which("shellcheck")
    commands = [[str(hadolint), "--no-color", str(CLUSTERS / "Dockerfile")]]
    if shellcheck:  # Debian's, which continuous integration installs
        commands.append([shellcheck, str(CLUSTERS / "slurm.sh"), str(ROOT / ".ci/run")])
    for command in commands:
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (found.returncode, found.stdout + found.stderr) == (0, "")


def services() -> dict[str, Any]:
    (written,) = documents("compose.yaml")
    found: dict[str, Any] = written["services"]
    return found


def test_services_find_one_another_and_only_this_machine_finds_them() -> None:
    found = services()
    for name, service in found.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert set(service.get("depends_on", ())) <= found.keys()
        for other, wanted in service.get("depends_on", {}).items():
            assert wanted["condition"] != "service_healthy" or "healthcheck" in found[other]
    (written,) = documents("compose.yaml")
    assert {volume.partition(":")[0] for service in found.values() for volume in service.get("volumes", ())} == written["volumes"].keys()
    variables = re.findall(r"\$\{(\w+)", (CLUSTERS / "compose.yaml").read_text())
    described = re.findall(r"^#   (\w+)=", (CLUSTERS / "compose.yaml").read_text(), re.MULTILINE)
    assert set(variables) == set(described), "no password stands there, and all that are needed are named"


def test_mlflow_takes_the_options_of_its_service() -> None:
    from mlflow.cli import cli

    program, command, *options = services()["mlflow"]["command"]
    taken = {name for parameter in cli.commands[command].params for name in parameter.opts}
    assert program == "mlflow"
    assert {option.partition("=")[0] for option in options} <= taken
    address = next(option.partition("=")[2] for option in options if option.startswith("--backend-store-uri"))
    assert make_url(address.replace("${POSTGRES_PASSWORD}", "x")).get_driver_name() == "psycopg"


def test_the_buckets_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    *_, script = services()["buckets"]["command"]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    try:
        for _ in range(2):
            exec(script.replace("http://minio:9000", f"http://{host}:{port}"), {})
        s3 = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
        assert sorted(bucket["Name"] for bucket in s3.list_buckets()["Buckets"]) == ["gaplab", "mlflow"]
    finally:
        server.stop()
