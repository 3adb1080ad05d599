"""Figures: `style` and `canvas` are shared by all; then one file a family of figures."""
