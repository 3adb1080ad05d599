"""Records and curves: the one Arrow schema, how a worker writes them, how a reader gets each point once.

A study's results are Parquet fragments in ``STORAGE/STUDY/records`` and ``STORAGE/STUDY/curves``. A fragment appears whole or
not at all: it is written under a temporary name and renamed (an object store's PUT is atomic by itself). Curves are
written before records, so a record never lacks its curve. A point that ran twice has two equal rows; readers keep one.
Many fragments are merged into few files, in ``records/merged`` and ``curves/merged`` (`study.compaction`): a fragment that was
listed may be gone when it is read, and its rows are in a merged file then.
"""

from __future__ import annotations

import math
import os
import platform
import types
import typing
import uuid
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from trainables.config import KEY_VERSION, ConfigError, field_types, flatten
from trainables.reproducibility import bits_mode

if TYPE_CHECKING:
    from trainables.training import Result

STATUSES = ("completed", "diverged", "pruned", "failed")
FINAL = ("completed", "diverged", "pruned")
"""Outcomes of the point itself: it is not run again. A failed point (a bug, no memory) is run again on the next start."""

_DOCS: dict[str, tuple[pa.DataType, str]] = {
    "parameters": (pa.int64(), "trainable parameters p: the capacity"),
    "parameters_per_sample": (pa.float64(), "p/n reached, with n the training samples actually used"),
    "wrong_label_rate": (pa.float64(), "fraction of training labels that differ from the true ones, measured"),
    "train_error": (pa.float64(), "1 - accuracy on the training set with the labels trained on, at the end"),
    "train_loss": (pa.float64(), "mean loss on the training set with the labels trained on, at the end, without penalties"),
    "validation_error": (pa.float64(), "1 - accuracy on the validation split, clean labels, at the end; null without one"),
    "test_error": (pa.float64(), "1 - accuracy on the test set, clean labels, at the end"),
    "test_loss": (pa.float64(), "mean loss on the test set, at the end"),
    "generalization_gap": (pa.float64(), "test_error - train_error"),
    "epochs": (pa.int32(), "epochs trained"),
    "fit_epoch": (pa.int32(), "first evaluated epoch whose train error (or loss, if that is the target) reached the target; null if none"),
    "interpolated": (pa.bool_(), "whether the target was reached"),
    "seconds": (pa.float64(), "training time of the pack divided by its members at each epoch"),
}
_PROVENANCE: dict[str, tuple[pa.DataType, str]] = {
    "key_version": (pa.int32(), "version of the meaning of fields, part of the key"),
    "finished": (pa.timestamp("ms", tz="UTC"), "when the point finished"),
    "gaplab_version": (pa.string(), "package versions"),
    "torch_version": (pa.string(), ""),
    "python_version": (pa.string(), ""),
    "git_commit": (pa.string(), "commit of the checkout the study was started from, if any"),
    "device": (pa.string(), "what it was trained on"),
    "host": (pa.string(), "on which machine"),
    "bits": (
        pa.string(),
        "mode of MKL, and vector instructions, that its bits come from (docs/engines.md); null where no bits are promised",
    ),
}
_CURVE: dict[str, tuple[pa.DataType, str]] = {
    "key": (pa.string(), "the point"),
    "epoch": (pa.int32(), "epochs trained so far"),
    "learning_rate": (pa.float64(), "in that epoch"),
    "train_loss": (pa.float64(), "as in the record"),
    "train_error": (pa.float64(), "as in the record"),
    "validation_error": (pa.float64(), "as in the record"),
    "test_loss": (pa.float64(), "as in the record"),
    "test_error": (pa.float64(), "as in the record"),
    "clean_train_error": (pa.float64(), "train error on the samples whose label is true; null if there are none"),
    "wrong_train_error": (
        pa.float64(),
        "train error, against the wrong label, on the samples whose label is wrong; null if there are none",
    ),
    "clean_train_loss": (pa.float64(), "train loss on the samples whose label is true; null if there are none"),
    "wrong_train_loss": (pa.float64(), "train loss, against the wrong label, on the samples whose label is wrong; null if there are none"),
}
_SAMPLES: dict[str, tuple[pa.DataType, str]] = {
    "key": (pa.string(), "the point"),
    "index": (
        pa.list_(pa.int32()),
        "which samples of the data set's training split the lists are of: all, but only those trained on under pixel corruption",
    ),
    "label": (pa.list_(pa.int16()), "the label trained on, or that would have been"),
    "trained": (pa.list_(pa.bool_()), "whether the point was trained on it"),
    "correct": (pa.list_(pa.bool_()), "whether the trained network predicts that label"),
    "loss": (pa.list_(pa.float32()), "the trained network's cross-entropy of that label, in nats"),
    "forgotten": (pa.list_(pa.float32()), "forgetting events over the evaluated epochs (Toneva et al. 2019); NaN if not trained on"),
    "learning_speed": (pa.list_(pa.float32()), "share of the evaluated epochs at which it was right; NaN if not trained on"),
    "learned": (pa.list_(pa.float32()), "first evaluated epoch from which on it stayed right; NaN if none, or not trained on"),
    "test_correct": (pa.list_(pa.bool_()), "of each test sample: whether its prediction is the true label"),
    "test_loss": (pa.list_(pa.float32()), "of each test sample: the cross-entropy of the true label, in nats"),
}


def _arrow_type(hint: Any) -> pa.DataType:
    options = [kind for kind in typing.get_args(hint) if kind is not type(None)] if isinstance(hint, types.UnionType) else [hint]
    kind = options[0]
    if typing.get_origin(kind) is typing.Literal:
        return pa.string()
    return {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}[kind]


def _record_schema() -> pa.Schema:
    head = [pa.field("key", pa.string()), pa.field("study", pa.string()), pa.field("status", pa.string()), pa.field("reason", pa.string())]
    config = [pa.field(name, _arrow_type(hint)) for name, hint in field_types().items()]
    outcome = [pa.field(name, kind, metadata={"doc": doc}) for name, (kind, doc) in (_DOCS | _PROVENANCE).items()]
    return pa.schema([*head, *config, *outcome])


RECORDS = _record_schema()
"""One row a point: key, study, status, reason, every dotted config field, the outcome, provenance. Measures add ``measure.*``."""
CURVES = pa.schema([pa.field(name, kind, metadata={"doc": doc}) for name, (kind, doc) in _CURVE.items()])
"""One row a point and evaluated epoch."""
SAMPLES = pa.schema([pa.field(name, kind, metadata={"doc": doc}) for name, (kind, doc) in _SAMPLES.items()])
"""One row a point of a study that names the measure `forgetting_events`: an entry a sample in each list."""
OUTCOMES = tuple(_DOCS)
MERGED = "merged"
"""The folder, in that of the fragments, of the files that they are merged into."""
_FEW_ROWS = 64
"""A file of so few is read three times as fast plain as compressed, and is no larger."""


@dataclass(frozen=True)
class Provenance:
    """Where results come from: what a worker adds to every record."""

    study: str
    git_commit: str | None
    gaplab_version: str

    def columns(self, device: str | None) -> dict[str, Any]:
        import torch

        return {
            "study": self.study,
            "key_version": KEY_VERSION,
            "finished": datetime.now(UTC),
            "gaplab_version": self.gaplab_version,
            "torch_version": torch.__version__,
            "python_version": platform.python_version(),
            "git_commit": self.git_commit,
            "device": device,
            "host": platform.node(),
            "bits": bits_mode() if device == "cpu" else None,
        }


def study_root(storage: str, study: str) -> str:
    """``STORAGE/STUDY`` as every process finds it: a local path is made absolute, any other URI stays as it is."""
    if "://" in storage and not storage.startswith("file://"):
        path, mark, options = storage.partition("?")  # s3://BUCKET/PATH?region=...
        return f"{path.rstrip('/')}/{study}{mark}{options}"
    return f"{open_store(storage)[1]}/{study}"


def open_store(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system and path of a local path or of any URI that `pyarrow.fs` knows.

    Raises:
        ConfigError: it is neither, or it holds a password: URIs are printed and logged.
    """
    if "://" not in uri:
        return pyarrow.fs.LocalFileSystem(), str(Path(uri).expanduser().resolve())
    scheme, _, rest = uri.partition("://")
    if ":" in rest.partition("/")[0].rpartition("@")[0] or "secret_key=" in rest:
        raise ConfigError(f"{scheme}://...: a storage URI must hold no password: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ConfigError(f"{uri} is no storage ({str(error).splitlines()[0]}): give a folder, or a URI such as s3://BUCKET/PATH") from None
    return filesystem, path.rstrip("/")


def probe_store(root: str) -> None:
    """Write about as much as a fragment, and take it away.

    Raises:
        OSError: that is not possible.
    """
    filesystem, path = open_store(root)
    probe = f"{path}/.probe-{uuid.uuid4().hex[:12]}"
    try:
        with filesystem.open_output_stream(probe) as stream:
            stream.write(bytes(2**16))
    finally:
        with suppress(OSError):
            filesystem.delete_file(probe)


@dataclass(frozen=True)
class FragmentWriter:
    """Writes results under ``root`` (``STORAGE/STUDY``), a fragment a call; it travels to the workers.

    Raises:
        OSError: the storage cannot be written; no fragment has appeared then.
    """

    root: str
    provenance: Provenance

    def __call__(self, results: Sequence[Result], device: str | None) -> None:
        if not results:
            return
        filesystem, path = open_store(self.root)
        name = f"{results[0].key}-{uuid.uuid4().hex[:12]}.parquet"
        curves = pa.Table.from_pylist([_finite(row) for result in results for row in result.curve], schema=CURVES)
        if curves.num_rows:
            write_whole(filesystem, f"{path}/curves/{name}", curves)
        samples = [result.samples for result in results if result.samples is not None]
        if samples:
            write_whole(filesystem, f"{path}/samples/{name}", pa.Table.from_pylist(samples, schema=SAMPLES))
        write_whole(filesystem, f"{path}/records/{name}", self._records(results, device))

    def recorded(self, keys: Collection[str], measures: Sequence[str] = ()) -> set[str]:
        """Those of the keys that a pack of just these points has recorded already, with the measures; for a pack whose worker was lost.

        Only fragments that begin with one of the keys are read, which are few of a large study's.
        """
        paths = [path for path in fragments(self.root) if path.rpartition("/")[2].partition("-")[0] in keys]
        found = _statuses(self.root, paths, measures)
        return {key for key, status in found.items() if key in keys and status in FINAL}

    def _records(self, results: Sequence[Result], device: str | None) -> pa.Table:
        provenance = self.provenance.columns(device)
        rows = [
            {"key": result.key, "status": result.status, "reason": result.reason}
            | flatten(result.point)
            | _finite(result.outcome)
            | provenance
            for result in results
        ]
        measures = sorted({name for row in rows for name in row if name.startswith("measure.")})
        return pa.Table.from_pylist(rows, schema=pa.schema([*RECORDS, *(pa.field(name, pa.float64()) for name in measures)]))


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Null for what is not a finite number: MLflow cannot keep an infinity, and neither is a result."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}


def write_whole(filesystem: pyarrow.fs.FileSystem, path: str, table: pa.Table, row_group_size: int | None = None) -> None:
    """Write a Parquet file that is there whole or not at all, and stays after a power cut.

    Raises:
        OSError: it cannot be written; nothing has appeared then.
    """
    buffer = pa.BufferOutputStream()
    plain = table.num_rows <= _FEW_ROWS
    pyarrow.parquet.write_table(
        table,
        buffer,
        row_group_size=row_group_size,
        compression="none" if plain else "zstd",
        use_dictionary=not plain,
        write_page_checksum=True,
    )
    if not isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        with filesystem.open_output_stream(path) as stream:  # one PUT: it appears when the stream is closed
            stream.write(buffer.getvalue())
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())  # a power cut after the rename must not leave an empty fragment
        unfinished.replace(target)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def finished_files(filesystem: pyarrow.fs.FileSystem, folder: str) -> list[pyarrow.fs.FileInfo]:
    """The finished Parquet files of a folder of fragments, sorted by path, the merged ones last; none if there is no folder.

    Merged files are listed after the fragments: a fragment that was removed before it was listed is in one of them.
    """
    found: list[pyarrow.fs.FileInfo] = []
    for one in (folder, f"{folder}/{MERGED}"):
        infos = filesystem.get_file_info(pyarrow.fs.FileSelector(one, allow_not_found=True))
        finished = (info for info in infos if info.is_file and info.base_name.endswith(".parquet") and not info.base_name.startswith("."))
        found += sorted(finished, key=lambda info: info.path)
    return found


def fragments(root: str) -> list[str]:
    """Paths of the finished record files of a study, merged ones included; none if there is no study yet."""
    filesystem, path = open_store(root)
    return [info.path for info in finished_files(filesystem, f"{path}/records")]


def read_fragments(root: str, paths: Iterable[str], columns: list[str] | None = None) -> pa.Table:
    """The rows of some record files, as written; a damaged file counts as not there, so its points run again.

    Raises:
        FileNotFoundError: one has gone, into a merged file: `fragments` lists that.
    """
    filesystem, _ = open_store(root)
    tables = [pa.table({name: pa.array([], RECORDS.field(name).type) for name in columns or RECORDS.names})]
    for path in paths:
        try:
            tables.append(checked_records(read_whole(filesystem, path, columns)))
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            warnings.warn(f"{path} is no complete Parquet file and was skipped: {str(error).splitlines()[0]}", stacklevel=2)
    return pa.concat_tables(tables, promote_options="default")


def read_whole(filesystem: pyarrow.fs.FileSystem, path: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file, its checksums verified; on one thread, which is fastest for a small one."""
    with pyarrow.parquet.ParquetFile(path, filesystem=filesystem, page_checksum_verification=True) as file:
        return file.read(columns=columns, use_threads=False)


def checked_records(table: pa.Table) -> pa.Table:
    """The table, if it is one of records: a footer has no checksum, and may say anything."""
    if not table.schema.equals(RECORDS):  # an older version's, with measures, or damaged
        if "key" not in table.schema.names:
            raise pa.ArrowInvalid("it has no column key")
        for field in table.schema:
            right = RECORDS.field(field.name).type if field.name in RECORDS.names else pa.float64()
            if field.type != right:
                raise pa.ArrowInvalid(f"its column {field.name} is {field.type}, not {right}")
    table.validate(full=True)
    return table


def statuses(root: str, measures: Sequence[str] = ()) -> dict[str, str]:
    """The status of every recorded key; a final one stands before a failure.

    A completed point that was recorded without one of the `measures` counts as not there.
    """
    while True:
        with suppress(FileNotFoundError):  # merged since they were listed: the next listing knows
            return _statuses(root, fragments(root), measures)


def _statuses(root: str, paths: Sequence[str], measures: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    bare = _without(root, paths, {f"measure.{name}" for name in measures}) if measures else set()
    for part, measured in (([path for path in paths if path not in bare], True), (sorted(bare), False)):
        table = read_fragments(root, part, ["key", "status"])
        for key, status in zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True):
            if (measured or status != "completed") and (status in FINAL or key not in found):
                found[key] = status
    return found


def _without(root: str, paths: Iterable[str], columns: set[str]) -> set[str]:
    """The record files that lack one of the columns."""
    filesystem, _ = open_store(root)
    lacking = set()
    for path in paths:
        try:
            names = set(pyarrow.parquet.read_schema(path, filesystem=filesystem).names)
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            continue  # a damaged file is named by whoever reads it
        if not columns <= names:
            lacking.add(path)
    return lacking
