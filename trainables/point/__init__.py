"""A point: everything that determines one result.

`config` has its fields, group by group, and their flat form with dotted names; `knobs` gives a field its documentation and its range.
`key` hashes what a result depends on, with what `families` knows of models. `kinds` names the corruptions; `transitions` reads matrices of
label noise; `fit` says what it is to have fit. `streams` draws random numbers from a point's seeds; `text` writes points for Tune; `errors`
has what the user is told; `gc_paused` keeps the garbage collector from going through a great many points.
"""
