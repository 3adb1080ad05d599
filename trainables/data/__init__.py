"""Data: sources, corruption, preprocessing, augmentation."""
