"""What one run is: data, corruption, models, training. Knows Ray in `tune` alone, and nothing of Optuna, MLflow, spaces or charts."""

from trainables.models import registry as registry  # it tells keys which fields a family reads
