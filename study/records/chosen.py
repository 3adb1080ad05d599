"""What a study's probes have chosen, in ``STORAGE/STUDY/chosen.json``: part of its points' keys, so that no other run chooses again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from analysis.records.store import open_store
from study.records.writer import write_whole
from trainables.point.errors import ConfigError

FILE = "chosen.json"
Chosen = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Field -> key of the group -> what was chosen: `value` (None where the field keeps its default), `of` (the group in words), and how.
A field that stands here is chosen for every group that the study ever has, also if its spec does not name it."""


def read_chosen(root: str) -> Chosen | None:
    """What was chosen for a study; None if nothing ever was.

    Raises:
        ConfigError: the file is there and cannot be read: its values are part of the keys.
    """
    filesystem, path = open_store(root)
    try:
        with filesystem.open_input_stream(f"{path}/{FILE}") as stream:
            found = json.loads(stream.read())
        for groups in found.values():
            for one in groups.values():
                if not (one["value"] is None or float(one["value"]) > 0):
                    raise ValueError(f"{one['value']!r} is no value")
    except (FileNotFoundError, NotADirectoryError):  # whoever claims the folder says what stands in its way
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{root}/{FILE} cannot be read ({said}): it holds values that are part of the points' keys. Restore it; without it, name them "
            "in the spec, as the records have them"
        ) from None
    return dict(found)


def write_chosen(root: str, chosen: Chosen) -> None:
    """Add to what was chosen for a study; nothing is written if all of it stands there. Whoever calls this holds the study's claim.

    Raises:
        ConfigError: another run has chosen otherwise meanwhile.
        OSError: the storage cannot be written.
    """
    if not chosen:
        return
    before = read_chosen(root) or {}
    merged = {field: {**before.get(field, {}), **chosen.get(field, {})} for field in {**before, **chosen}}
    for field, groups in before.items():
        for key, one in groups.items():
            if merged[field][key]["value"] != one["value"]:
                raise ConfigError(f"another run of this study has chosen {field} meanwhile: the same command goes on with its choice")
    if merged != before:
        filesystem, path = open_store(root)
        write_whole(filesystem, f"{path}/{FILE}", json.dumps(merged, indent=1).encode())
