"""The samplers that a spec may name are those that can be built."""

from __future__ import annotations

from typing import get_args

from study.search.samplers import SAMPLERS
from study.spec.sections import SearchSection


def test_a_spec_may_name_every_sampler_and_no_other() -> None:
    assert set(get_args(SearchSection.model_fields["sampler"].annotation)) == {"auto", *SAMPLERS}
