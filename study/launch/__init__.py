"""The run: a plan carried out on Ray Tune.

`run.py` is the whole of it in a few lines; `training.py` trains what is missing in the context of `context.py`, through `tuner.py` and
`searcher.py`, which know Ray Tune; `cluster.py` finds or starts Ray, whose machines `node_checks.py` and `doctor.py` look at; `breaker.py`
stops what cannot succeed; `mirroring.py` copies records to MLflow; `progress.py` says how it goes, `summary.py` what came of it.
"""
