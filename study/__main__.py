"""``python -m study`` is the command `gaplab`."""

import study.cli.__main__  # noqa: F401  # its import runs the command
