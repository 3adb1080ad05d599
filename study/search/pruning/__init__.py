"""Suggestions that are not trained to their end.

`study.search.pruning.leaving` decides by Optuna's pruners, or one's own, who leaves for good. `study.search.pruning.thawing` decides who is
frozen, thawed and trained on (freeze-thaw), by what `study.search.pruning.learning_curves` forecasts of those that have begun.
"""
