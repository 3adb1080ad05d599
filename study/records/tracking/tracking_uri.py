"""Where MLflow is: by default beside the results, or at an address that is asked once whether anything answers."""

from __future__ import annotations

from pathlib import Path

from trainables.point.errors import ConfigError

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 60.0
"""A server that is there, on a busy machine, may take long to say so."""


def default_tracking_uri(storage: str) -> str | None:
    """An SQLite database in a local storage folder; None for storage that is not local."""
    return None if "://" in storage else f"sqlite:///{Path(storage).expanduser().resolve()}/mlflow.db"


def check_reachable(uri: str) -> None:
    """Ask once, shortly, so that a mistyped URI is an error now and not a silent lag. Nothing is made.

    Raises:
        ConfigError: there is no tracking server or database at the URI.
    """
    advice = "start the server, or correct --tracking-uri"
    if uri.startswith(("http://", "https://")):
        import requests

        try:
            requests.get(f"{uri.rstrip('/')}/health", timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS)).raise_for_status()
        except requests.RequestException as error:
            raise ConfigError(f"--tracking-uri: no MLflow server answers at {uri} ({type(error).__name__}): {advice}") from None
    elif "://" in uri and not uri.startswith(("databricks", "uc:")):
        import sqlalchemy

        try:
            url = sqlalchemy.engine.make_url(uri)
            if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
                if not Path(url.database or "").parent.is_dir():
                    raise FileNotFoundError(f"there is no folder {Path(url.database or '').parent}")
            else:
                sqlalchemy.inspect(sqlalchemy.create_engine(url)).get_table_names()
        except (FileNotFoundError, ModuleNotFoundError) as error:
            raise ConfigError(f"--tracking-uri: cannot open {uri}: {error}") from None
        except Exception as error:  # not its text, which may hold the password in some form
            raise ConfigError(f"--tracking-uri: cannot open {uri} ({type(error).__name__}): {advice}") from None
    else:
        raise ConfigError(f"--tracking-uri: {uri!r} is no server or database: give http://HOST:PORT, sqlite:///PATH or postgresql://...")
