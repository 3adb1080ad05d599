"""What meets a reader of a study in MLflow.

`gathering` collects it, `overview` composes the description and the metrics of the study's run, `writing` puts them on it. `views` are what
MLflow's pages show of the experiment by a link: the gap by capacity, and the points averaged over their seeds.
"""

from study.records.front.gathering import charts_of, front_of
from study.records.front.views import link
from study.records.front.writing import DataSet, Front, write_front

__all__ = ["DataSet", "Front", "charts_of", "front_of", "link", "write_front"]
