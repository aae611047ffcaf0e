"""Ways to choose the configurations of a search."""

from typing import Annotated

from pydantic import Field

from tuning.searchers.grid import Grid
from tuning.searchers.nsga2 import NSGA2
from tuning.searchers.random import Random
from tuning.searchers.searcher import Method, Searcher, State
from tuning.searchers.sobol import Sobol
from tuning.searchers.tpe import TPE

SearcherSpec = Annotated[Random | Grid | Sobol | TPE | NSGA2, Field(discriminator="kind")]

__all__ = ["NSGA2", "TPE", "Grid", "Method", "Random", "Searcher", "SearcherSpec", "Sobol", "State"]
