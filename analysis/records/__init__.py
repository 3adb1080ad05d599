"""Records: the one schema, where they lie, which points are recorded, and how they are loaded from Arrow and from MLflow."""
