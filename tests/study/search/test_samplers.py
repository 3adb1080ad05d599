"""The samplers that a spec may name are those that can be built."""

from __future__ import annotations

from study.search.samplers import SAMPLERS
from study.spec.sections import SAMPLER_NAMES


def test_a_spec_may_name_every_sampler_and_no_other() -> None:
    assert set(SAMPLER_NAMES) == {"auto", *SAMPLERS}
