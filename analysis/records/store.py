"""The store in which results lie: a local folder, or an object store by its URI."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from trainables.point.errors import ConfigError


def study_root(storage: str, study: str) -> str:
    """``STORAGE/STUDY`` as every process finds it: a local path is made absolute, and any other URI stays as it is."""
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
    if not path.strip("/") and scheme != "file":
        raise ConfigError(f"{uri} names no bucket: give a folder, or a URI such as s3://BUCKET/PATH")
    return filesystem, path.rstrip("/")
