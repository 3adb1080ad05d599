"""Data: what a point trains on and is tested on.

The room `sets` loads what `data.name` stands for. `subset` cuts the training and validation samples, `corruption` changes labels
(`label_noise` by class or features) or pixels once, and `inputs` preprocesses, with `windows` of whole images and random `augmentation`
while a network trains. What the training loop asks for (`protocol`) is given by tensors on the device, or by files that are `streamed`.
`misclassified` says what counts as such, in one place. A new kind of corruption is named in `trainables.point.config`, and applied in
`corruption`.
"""
