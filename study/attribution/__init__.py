"""Which training samples made a network what it is: networks trained on random subsets, and again without what mattered most.

`declared.py` says which points a spec's attribution asks for; `rounds.py` runs them: first the subsets, then, once these say which samples
matter, networks without those. The points are ordinary ones, declared and recorded like those of any study: a second run of the same
command finds all of them recorded. What they come to is said by `analysis.attribution_table` and `analysis.left_out_table`.
"""
