"""Data: what a point trains on and is tested on.

`sources` turns `data.name` into a `dataset` (`named` sets, `npz` files, the `synthetic` mixture) or into `image_files` that stay where
they are. `subset` cuts the training and validation samples, `corruption` changes labels or pixels once, and `inputs` preprocesses. What the
training loop asks for (`protocol`) is given by tensors on the device, or by files that are `streamed`. `errors` says what counts as
misclassified, in one place.
"""
