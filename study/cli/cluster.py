"""The commands about where a study runs: doctor; submit, logs, stop, which send it to a Ray cluster as a job and follow it; and the files
that start one."""

from __future__ import annotations

import shlex
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from study.cli.options import Storage, TrackingUri
from study.cli.terminal.printing import checks_table, say
from trainables.point.errors import ConfigError
from trainables.redaction import holds_secret

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from study.spec.reading import Spec

CLUSTERS = Path(__file__).parents[1] / "clusters"
"""The files that start a cluster, as they are installed."""
Dashboard = Annotated[
    str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Of the cluster's dashboard, such as http://HEAD:8265; it takes Ray's jobs.")
]
Follow = Annotated[bool, typer.Option("--follow", help="Until the job ends; Ctrl-C leaves it alone.")]
Job = Annotated[str, typer.Argument(metavar="ID", help="As gaplab submit printed it.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (doctor, submit, logs, stop, cluster_files):
        app.command()(command)


def doctor(
    storage: Storage = "results",
    tracking_uri: TrackingUri = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, whose every node is looked at too.")] = None,
) -> None:
    """Check Python, packages, GPUs, Ray, storage, tracking and data; one remedy a failing line."""
    from study.launch.doctor import checks

    found = list(checks(storage, tracking_uri, address))
    say(checks_table(found))
    if not all(check.good for check in found):
        raise typer.Exit(1)


def submit(
    spec: Annotated[str, typer.Argument(metavar="SPEC|PRESET", help="A YAML file, or a preset's name.")],
    address: Dashboard,
    storage: Annotated[str, typer.Option(help="URI or absolute folder that every node of the cluster can write.")],
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the spec.")] = None,
    scale: Annotated[str | None, typer.Option(help="Of a preset that has scales: smoke, cpu (the default) or paper.")] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow's, as the cluster reaches it.")] = None,
    allow_mixed: Annotated[bool, typer.Option("--allow-mixed", help="Also on nodes with other versions.")] = False,
) -> None:
    """Run a study as a job of a Ray cluster, and come back at once; gaplab has to be installed there.

    The job first looks at every node, as gaplab run --address does; gaplab logs shows the table, or what is in the way.
    """
    from study.launch.node_checks import SUBMITTED_WITH, versions
    from study.spec.reading import read_spec

    understood = read_spec(spec, tuple(changes or ()), scale)
    _check_secrets(understood, [storage, tracking_uri or "", *(changes or [])])
    if "://" not in storage and not Path(storage).is_absolute():
        raise ConfigError(f"--storage: {storage} is relative, and would lie anywhere on the cluster: give a URI or an absolute folder")
    options = ["--address", "auto", "--storage", storage]
    for name, values in (("--set", changes or []), ("--scale", [scale]), ("--tracking-uri", [tracking_uri])):
        options += [part for value in values if value is not None for part in (name, value)]
    options += ["--allow-mixed"] * allow_mixed
    with TemporaryDirectory(prefix="gaplab-submit-") as folder, _client(address) as client:
        _pack(understood, Path(folder))
        job = client.submit_job(
            entrypoint=shlex.join(["gaplab", "run", "spec.yaml", *options]),
            submission_id=f"gaplab-{understood.study}-{uuid.uuid4().hex[:8]}",
            runtime_env={"working_dir": folder, "env_vars": {SUBMITTED_WITH: versions()["gaplab"]}},
            metadata={"study": understood.study},
        )
    print(f"submitted {job}")
    for command in ("logs", "stop"):
        print(f"gaplab {command} {job} --address {address}")


def logs(job: Job, address: Dashboard, follow: Follow = False) -> None:
    """Print what a job has said, and how it stands; exit code 1 if it failed."""
    from ray.job_submission import JobStatus

    with _client(address) as client:
        if follow:
            import asyncio

            asyncio.run(_print_tail(client, job))
        else:
            sys.stdout.write(client.get_job_logs(job))
        status = client.get_job_status(job)
        print(f"{job}: {status.value.lower()}")
    if status == JobStatus.FAILED:
        raise typer.Exit(1)


def stop(job: Job, address: Dashboard) -> None:
    """Stop a job; what is recorded stays, and submitting the study again goes on from there."""
    with _client(address) as client:
        stopped = client.stop_job(job)
    print(f"{job} {'is being stopped' if stopped else 'had ended already'}; submitting the study again goes on from its records")


def cluster_files(folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Made if it is not there.")]) -> None:
    """Write the files that start a cluster, to be edited: Ray's launcher, KubeRay, Slurm, Docker and compose."""
    files = {path.name: path for path in sorted(CLUSTERS.iterdir()) if path.is_file()}
    if there := [name for name in files if (folder / name).exists()]:
        raise ConfigError(f"{folder} has {', '.join(there)} already, which may be edited: move it away, or give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            shutil.copy(path, folder / name)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}") from None
    print(f"{folder}: {', '.join(files)}")
    print("Lines to be edited are marked EDIT; docs/cluster/ in a checkout has a page on each.")


def _check_secrets(spec: Spec, options: list[str]) -> None:
    """Raise ConfigError for what the cluster's dashboard would show to all: a job's command and its files."""
    from analysis.records.searches.trials import SECRET_VARIABLE

    if any(map(holds_secret, options)):
        raise ConfigError(
            "an option holds a password, which the cluster's dashboard would show: leave it out here, and set it there in the environment "
            f"(MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, PGPASSWORD, {SECRET_VARIABLE})"
        )
    if holds_secret(spec.text):
        raise ConfigError(
            f"{spec.source} holds a password, and would lie on the cluster for all: leave it out, and set {SECRET_VARIABLE} there "
            "to the whole URL"
        )


async def _print_tail(client: JobSubmissionClient, job: str) -> None:
    async for text in client.tail_job_logs(job):
        sys.stdout.write(text)
        sys.stdout.flush()


def _pack(spec: Spec, folder: Path) -> None:
    """The spec, its own models, and its own search space, sampler and pruner, as the job will find them."""
    from study.search.custom import HUB

    assert spec.source is not None
    shutil.copy(spec.source, folder / "spec.yaml")
    home = spec.source.parent.resolve()
    named = [spec.search.function or "", *(one for one in (spec.search.sampler, spec.search.pruner) if not one.startswith(HUB))]
    files = [spec.source.parent / name.rpartition(":")[0] for name in named if ":" in name]
    for path in (*spec.imports, *dict.fromkeys(files)):
        if not path.resolve().is_relative_to(home):
            raise ConfigError(f"{path} does not lie beside or below {spec.source}, from where it could be sent to the cluster")
        target = folder / path.resolve().relative_to(home)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


@contextmanager
def _client(address: str) -> Iterator[JobSubmissionClient]:
    """A client of the cluster's jobs, whose errors are sentences.

    Raises:
        ConfigError: nothing answers, there is no such job, or the cluster refuses it.
    """
    import requests
    from ray.exceptions import AuthenticationError

    if not address.startswith(("http://", "https://")):
        raise ConfigError(f"--address: {address} is not where jobs are taken: give the dashboard's address, such as http://HEAD:8265")
    try:
        from ray.job_submission import JobSubmissionClient

        yield JobSubmissionClient(address)
    except AuthenticationError:
        raise ConfigError(f"{address} asks for its token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH") from None
    except (ConnectionError, requests.ConnectionError, requests.Timeout):
        raise ConfigError(f"--address: no Ray cluster takes jobs at {address}: is its dashboard running, and can it be reached?") from None
    except RuntimeError as error:
        said = [line for line in str(error).splitlines() if line.strip()]
        raise ConfigError(f"{address}: {said[0] if said else type(error).__name__}") from None
