"""What a spec may leave open, chosen from the data before a study starts: a probe's answer is part of every point's key.

`left_open` says which fields those are and what a choice depends on; `kernel_scale`, `learning_rate` and `epochs` choose. ``python -m
trainables.probe`` chooses in a process of its own.
"""
