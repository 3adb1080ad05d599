"""Which training samples made a network what it is: counted over networks trained on random subsets of one training set.

`subsets.py` sets the networks of each setting side by side, as who was trained on what and what came out. From that, `influence.py` takes
the difference that one sample makes, `datamodels.py` fits the outputs as linear functions of the subset, and `membership.py` guesses from
a network's outputs what it was trained on. `table.py` says all of it by setting.
"""
