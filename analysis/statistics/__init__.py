"""Statistics: means over seeds and their intervals, comparisons, thresholds, power laws, rankings of measures."""
