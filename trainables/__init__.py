"""What one run is: data, corruption, models, training. Knows nothing of Ray, Optuna, MLflow, spaces or charts."""
