"""Data sets as they are stored: what `data.name` stands for.

`sources` turns a name into a `dataset`: `named` sets (some `bundled` with scikit-learn), `npz` files with `labels` of any kind, `tables`
made of the `columns` of CSV and Parquet files, the `synthetic` mixture, or `image_files`, which stay where they are. `given_labels` are
those of a file beside a set. `inspection` looks at a set before anything trains on it.
"""
