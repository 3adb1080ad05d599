"""How a study runs: `study.run.run(study.spec.read_spec("spec.yaml"))`, or ``gaplab run`` from the command line."""
