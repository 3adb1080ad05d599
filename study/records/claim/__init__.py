"""One driver at a time, on object stores: the `lease` by which `study.records.folder` keeps a second one out.

It rests on `conditional` requests where the store takes them.
"""
