"""What every figure is drawn with: one `style`, the `canvas` of panels and axes, and `lines` with their bands."""
