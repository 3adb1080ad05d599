"""The memory that attribution takes, for one setting at a time: large arrays are as they are counted here, all else is in parts."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.errors import AnalysisError
from trainables.host_memory import machine_bytes

_MOST_CELLS = 10_000_000
"""Numbers of an array that is made part by part: 80 MB in double precision."""
_AT_ONCE = 12
"""So many such arrays are there together, at most."""
_SHARE = 0.75
"""Of a machine's memory, what attribution may take."""


def parts(total: int, each: int) -> Iterator[slice]:
    """Slices of 0 to total, in order, of so many places that these times ``each`` numbers are worked on at once."""
    step = max(1, _MOST_CELLS // max(each, 1))
    yield from (slice(start, min(start + step, total)) for start in range(0, total, step))


def needed_bytes(networks: int, samples: int, outputs: int) -> float:
    """Bytes that the attribution of one setting takes at most.

    Of each network and training sample 10: whether it was trained on it and predicts it (2), the log-odds (4), and the attack's statistics
    of half of the networks, once more sorted (4). Of each network and test sample 29: whether and log-odds (5), the targets of datamodels
    and their duals (16), predictions of a tenth of the networks with their ranks (8). Of each pair of networks, or of samples if these are
    fewer, 40: a Gram matrix, its eigenvectors, and what LAPACK works in.

    Args:
        networks: of a setting.
        samples: in its training split.
        outputs: test samples.
    """
    side = min(networks, samples)
    return 10.0 * networks * samples + 29.0 * networks * outputs + 40.0 * side**2 + 8.0 * _AT_ONCE * _MOST_CELLS


def check_memory(networks: int, samples: int, outputs: int) -> None:
    """Raise AnalysisError if this machine has too little memory; arguments as for `needed_bytes`."""
    needed, allowed = needed_bytes(networks, samples, outputs), _SHARE * machine_bytes()
    if needed <= allowed:
        return
    most = max((count for count in _counts(networks) if needed_bytes(count, samples, outputs) <= allowed), default=0)
    raise AnalysisError(
        f"{networks:,} networks on {samples:,} training and {outputs:,} test samples take {needed / 1e9:.3g} GB to set side by side, and "
        f"attribution takes at most {allowed / 1e9:.3g} GB of the {machine_bytes() / 1e9:.3g} GB of this machine: "
        + (f"take {most:,} networks a setting or fewer, or a machine with more" if most else "take smaller data, or a machine with more")
    )


def _counts(networks: int) -> list[int]:
    """Numbers of networks to propose: hundredths of those that are too many."""
    return [networks * part // 100 for part in range(1, 100)]
