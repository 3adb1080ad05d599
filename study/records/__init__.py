"""Writing records: what workers and drivers put under ``STORAGE/STUDY``, and what is copied to MLflow.

`writer` writes a fragment whole, with its `provenance`; `compaction` merges many fragments into few files; `verify` looks at checksums
and puts aside what is damaged (`gaplab verify`); `declared` notes which points the spec names. `folder` claims the study's folder for one
driver and tells a second one so: by a lock, or, on an object store, by a lease from the room `claim`. `mirror` follows the records into
MLflow: `copying` says what it lacks, the writers in `tracking` put it there.
"""
