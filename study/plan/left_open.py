"""What a spec leaves open, settled between spec and plan: before a point has its key, and the same in every run of the study.

The study's own choices come first (`study.records.chosen`), then the probe (`trainables.probe`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from study.plan.probing import answers
from study.records.chosen import read_chosen
from study.records.folder import read_statuses
from study.spec.reading import Spec
from trainables.point.config import TrialConfig, flatten, left_open_words, with_fields
from trainables.probe.left_open import LEFT_OPEN


class LeftOpen:
    """Gives points the values that their spec leaves open.

    Args:
        sources: the user's own modules, path -> text.
        probing: called before a probe starts; None for a plan that must not probe: its points keep the default.

    Attributes:
        fields: that the spec leaves open, by their word or by not naming them.
        chosen: what is chosen so far, that of earlier runs included.
        told: in sentences, what a probe chose, and what stays as it is recorded.
        pending: in sentences, what a run would probe.

    Raises:
        ConfigError: the study's choices cannot be read.
    """

    def __init__(self, spec: Spec, root: str, sources: Mapping[str, str], probing: Callable[[], None] | None) -> None:
        self.fields = [field for field in LEFT_OPEN if field in spec.left_open]
        self._by_word, self._root, self._sources, self._probing = spec.left_open, root, sources, probing
        self.told: list[str] = []
        self.pending: list[str] = []
        stored = (read_chosen(root) or {}) if self.fields else {}
        self.chosen: dict[str, dict[str, Mapping[str, Any]]] = {field: dict(groups) for field, groups in stored.items()}

    def settled(self, points: list[TrialConfig]) -> list[TrialConfig]:
        """The resolved points, with what was left open."""
        for field in self.fields:
            points = self._with(field, points)
        return points

    def _recorded_by_default(self, field: str) -> bool:
        """Whether nobody names the field and the study has records from before it was chosen: they have its default, and so it stays."""
        return not self._by_word[field] and field not in self.chosen and bool(read_statuses(self._root))

    def _with(self, field: str, points: list[TrialConfig]) -> list[TrialConfig]:
        """The points with a value of the field that was chosen for their group, if one was."""
        groups = [LEFT_OPEN[field].group(point) for point in points]
        by_identity = {id(group): group for group in groups if group}  # points of a group have one and the same
        if not by_identity:
            return points
        if self._recorded_by_default(field):
            default, word = flatten(TrialConfig())[field], left_open_words()[field]
            of = _described(field, by_identity.values())
            self.told.append(f"{field} stays {default:g} for {of}, as in what is recorded; {field}: {word} would choose it by a probe.")
            return points
        key_of = {identity: group.key() for identity, group in by_identity.items()}
        keys = [key_of.get(id(group)) for group in groups]
        known = self.chosen.setdefault(field, {})
        wanted: dict[str, TrialConfig] = {}
        members: dict[str, list[TrialConfig]] = {}
        for point, group, key in zip(points, groups, keys, strict=True):
            if key and group and key not in known:
                wanted[key] = group
                members.setdefault(key, []).append(point)
        if wanted and self._probing is None:
            self.pending.append(f"{field} is left open: a run will first choose it for {_described(field, wanted.values())}.")
        elif wanted and self._probing:
            self._probing()
            known |= self._probed(field, wanted, members)
            self.told += _told(field, [known[key] for key in wanted])
        values = {key: one["value"] for key, one in known.items() if one["value"] is not None}
        return [with_fields(point, {field: values[key]}) if key in values else point for point, key in zip(points, keys, strict=True)]

    def _probed(
        self, field: str, wanted: Mapping[str, TrialConfig], members: Mapping[str, list[TrialConfig]]
    ) -> dict[str, Mapping[str, Any]]:
        """What the probe chooses for groups; one that it cannot choose for has a reason."""
        kind = LEFT_OPEN[field]
        probed = {key: kind.probed(group, members[key]) for key, group in wanted.items()}
        found = answers([(field, points) for points in probed.values()], self._sources)
        return {
            key: {
                "of": kind.described(group),
                "widths": [point.model.width for point in probed[key]],
                "value": answer.get("value"),
                **{name: said for name, said in answer.items() if said and name != "value"},
            }
            for (key, group), answer in zip(wanted.items(), found, strict=True)
        }


def _described(field: str, groups: Iterable[TrialConfig]) -> str:
    """The groups in words, each once."""
    return ", ".join(dict.fromkeys(map(LEFT_OPEN[field].described, groups)))


def _told(field: str, chosen: list[Mapping[str, Any]]) -> list[str]:
    """In sentences: what was chosen for what, in how many seconds, and why something was not."""
    default = flatten(TrialConfig())[field]
    lines = []
    for one in chosen:
        at = f" at width {', '.join(f'{width:,}' for width in one['widths'])}" if field == "optimizer.learning_rate" else ""
        if one["value"] is None:
            lines.append(f"{field} stays {default:g} for {one['of']}: {one.get('why')}. Name it in the spec if that is not right.")
        else:
            lines.append(f"{field} is {one['value']:g} for {one['of']}: a probe{at} chose it in {one.get('seconds', 0):.1f} seconds.")
    return lines
