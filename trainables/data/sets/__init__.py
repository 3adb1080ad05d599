"""Data sets as they are stored: what `data.name` stands for.

`sources` turns a name into a `dataset`: `named` sets, `npz` files with `labels` of any kind, the `synthetic` mixture, or `image_files`,
which stay where they are. `inspection` looks at one before anything trains on it.
"""
