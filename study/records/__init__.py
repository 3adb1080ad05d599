"""Writing records: fragments, compaction, one driver at a time, the MLflow mirror."""
