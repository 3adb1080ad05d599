"""The spec: one YAML file that declares a study, read and checked.

`read_spec` takes a file or a preset's name, `understand` a mapping; both give a frozen `Spec`. An error is one sentence
that names the file, the field and what would be right.
"""
