"""Records as they come back from MLflow: through its client (`api`) or straight from its tables (`sql`), in one `layout` of runs."""

MLFLOW = "mlflow:"
"""What a source begins with that is an MLflow experiment."""
