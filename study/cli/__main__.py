"""``python -m study.cli`` is the command `gaplab`, as ``python -m study`` is."""

import study.__main__  # noqa: F401  # its import runs the command
