"""``python -m study.cli`` is the command `gaplab`, and so is ``python -m study``."""

from study import packages

packages.folder_here_last()

from study.cli import main  # noqa: E402  # not before: a folder `analysis` here would be taken for gaplab's

main()
