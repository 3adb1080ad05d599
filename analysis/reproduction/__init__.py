"""Reproduction: what a study measured beside what a paper published.

`claims` holds what was published as plain data, `checks` compares each claim with the records, and `page` writes the comparison in
Markdown. Which presets have published claims, and how they are run, is the business of `study`.
"""

from typing import TYPE_CHECKING

from analysis.lazy import lazy_exports

if TYPE_CHECKING:
    from analysis.reproduction.checks import HEADS, CheckedClaim, check_claims, records_of, reproduced
    from analysis.reproduction.claims import Claims, NumberClaim, OrderClaim
    from analysis.reproduction.page import combined_page, study_page

__all__ = [
    "HEADS",
    "CheckedClaim",
    "Claims",
    "NumberClaim",
    "OrderClaim",
    "check_claims",
    "combined_page",
    "records_of",
    "reproduced",
    "study_page",
]

__getattr__, __dir__ = lazy_exports(__name__)
