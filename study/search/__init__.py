"""Search: Optuna proposes points, packs of them are trained, their outcomes are reported back."""
