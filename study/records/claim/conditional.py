"""A claim that an object store gives to one driver only: an object that is made, renewed and removed on conditions.

pyarrow knows no conditional requests; boto3 does, which comes with the extra ``gaplab[s3]``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit


class RefusedError(Exception):
    """The condition does not hold: somebody else has made, renewed or removed the object."""


class ConditionalObject:
    """An object of an S3 store that is written only if it is as it was left. Every method raises OSError if the store fails.

    Args:
        client: of boto3.
    """

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client, self._place = client, {"Bucket": bucket, "Key": key}
        self._tag: str | None = None

    def make(self) -> None:
        """Make it.

        Raises:
            RefusedError: it is there already.
        """
        self._put(IfNoneMatch="*")

    def renew(self, tag: str | None = None) -> None:
        """Write it anew, if it still has the tag; by default the one that it was left with.

        Raises:
            RefusedError: it has another.
        """
        self._put(IfMatch=tag or self._tag)

    def tag(self) -> str | None:
        """What tells its content from any other; None if it is not there."""
        from botocore.exceptions import ClientError

        with self._failures_as_of_files():
            try:
                found: str = self._client.head_object(**self._place)["ETag"]
            except ClientError as error:
                if _status(error) == 404:
                    return None
                raise
        return found

    def remove(self) -> None:
        """Remove it, if it is as it was left."""
        if self.tag() == self._tag:
            with self._failures_as_of_files():
                self._client.delete_object(**self._place, IfMatch=self._tag)

    def _put(self, **condition: Any) -> None:
        from botocore.exceptions import ClientError

        with self._failures_as_of_files():
            try:
                self._tag = self._client.put_object(**self._place, Body=uuid.uuid4().hex.encode(), **condition)["ETag"]
            except ClientError as error:
                if _status(error) in (404, 409, 412):
                    raise RefusedError from None
                raise

    @contextmanager
    def _failures_as_of_files(self) -> Iterator[None]:
        """What botocore raises as OSError, which pyarrow raises for the same store: botocore's kinds have no other base in common."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"{self._place['Bucket']}/{self._place['Key']}: {error}") from error


def conditional_object(uri: str, path: str) -> ConditionalObject | None:
    """The object at a path of the store of this URI; None where there are no conditional requests, or nothing to make them with.

    Whether the store heeds conditions is seen from how it answers: some take any request, and some refuse the condition itself.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3":
        return None
    try:
        import boto3
        from botocore.config import Config
    except ModuleNotFoundError:
        return None
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    endpoint = options.get("endpoint_override")
    if endpoint and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    bucket, _, key = path.partition("/")
    try:
        settings = Config(connect_timeout=10, read_timeout=20, retries={"total_max_attempts": 3})
        client = boto3.client("s3", endpoint_url=endpoint, region_name=options.get("region"), config=settings)
        return ConditionalObject(client, bucket, key) if _heeds(client, bucket, f"{key}-probe-{uuid.uuid4().hex[:12]}") else None
    except Exception:  # botocore raises kinds of its own: no credentials, no region, no answer, no such request
        return None


def _heeds(client: Any, bucket: str, key: str) -> bool:
    """Whether the store refuses what a condition forbids."""
    probe, other = ConditionalObject(client, bucket, key), ConditionalObject(client, bucket, key)
    probe.make()
    try:
        other.make()
    except RefusedError:
        return True
    finally:
        client.delete_object(Bucket=bucket, Key=key)
    return False


def _status(error: Any) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
