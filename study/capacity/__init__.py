"""How many labels a network memorises: the number of training samples is bisected, on random and on true labels.

`bisection.py` says which points a spec's bisection asks for, given which of those before fit; `rounds.py` runs them, round by round, until
it asks for no more. The points are ordinary ones, declared and recorded like those of any study: a second run of the same command finds
all of them recorded. What they come to is said by `analysis.capacity_table`.
"""
