"""Search: Optuna proposes points, packs of them are trained, their outcomes are reported back.

`plan_search` turns a spec into a frozen `SearchPlan`; `Search` carries it out, step by step and without Ray (which
`study.launch.searcher` brings); `study.search.ablation` compares what a finished search has found.
A new sampler is an entry in `study.search.samplers` and a name in `study.spec.sections`; one's own needs neither (`study.search.custom`).
"""
