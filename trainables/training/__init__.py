"""Training: the one loop over a data source, for one member or many side by side.

`loop` fills slots with members, draws each epoch's batch order and steps the engine; `members` says when a point ends and what is
recorded of it, `evaluation` scores it on all its samples, `samples` keeps what it does on each. `limits` ends what takes too long,
`device_failures` tells memory that is short from a process that CUDA has spoilt, `distributed` averages the gradients of several processes.
"""
