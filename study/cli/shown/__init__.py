"""What commands print of a study: what it declares, what came of it, its search, its measures, its failures.

`chosen` keeps the records that `--where` asks for.
"""
