"""The spec: one YAML file that declares a study, read and checked."""
