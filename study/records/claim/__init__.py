"""One driver at a time: the `lease` that a driver holds on a study, by `conditional` requests where the storage is an object store."""
