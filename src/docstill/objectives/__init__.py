"""Objectives: what a student is asked to do. One method a file; a new one is a file and a line in `OBJECTIVES`."""

from __future__ import annotations

from docstill.objectives.attention import Attention
from docstill.objectives.base import Objective
from docstill.objectives.cka import Cka
from docstill.objectives.dense import Dense
from docstill.objectives.dist import Dist
from docstill.objectives.dkd import Dkd
from docstill.objectives.dsig import Dsig
from docstill.objectives.graphkd import Graphkd
from docstill.objectives.heads import Heads
from docstill.objectives.hint import Hint
from docstill.objectives.kd import Kd
from docstill.objectives.labels import Labels
from docstill.objectives.mgd import Mgd
from docstill.objectives.mse import Mse
from docstill.objectives.nkd import Nkd
from docstill.objectives.pkd import Pkd
from docstill.objectives.query import Query
from docstill.objectives.reading import Reading
from docstill.objectives.review import Review
from docstill.objectives.rkd import Rkd
from docstill.objectives.roi import Roi
from docstill.objectives.simkd import Simkd
from docstill.objectives.vkd import Vkd

OBJECTIVES: dict[str, type[Objective]] = {
    "labels": Labels,
    "kd": Kd,
    "mse": Mse,
    "nkd": Nkd,
    "dkd": Dkd,
    "dist": Dist,
    "hint": Hint,
    "vkd": Vkd,
    "simkd": Simkd,
    "attention": Attention,
    "review": Review,
    "rkd": Rkd,
    "cka": Cka,
    "reading": Reading,
    "pkd": Pkd,
    "mgd": Mgd,
    "heads": Heads,
    "roi": Roi,
    "query": Query,
    "dense": Dense,
    "dsig": Dsig,
    "graphkd": Graphkd,
}
