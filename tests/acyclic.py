"""A contract of import-linter: no import cycle between modules, deferred and type-only imports included."""

from __future__ import annotations

import networkx
from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output


class Acyclic(Contract):
    """Kept where no module imports itself through others; else one cycle of each group is printed."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look for groups of modules that import each other."""
        cycles = find_cycles(graph)
        return ContractCheck(kept=not cycles, metadata={"cycles": cycles})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print the cycles, one on a line."""
        for cycle in check.metadata["cycles"]:
            output.print_error(" -> ".join([*cycle, cycle[0]]))


def find_cycles(graph: ImportGraph) -> list[list[str]]:
    """A cycle of each group of modules that import each other: its modules, each importing the next."""
    imports = networkx.DiGraph(
        (one, other) for one in sorted(graph.modules) for other in sorted(graph.find_modules_directly_imported_by(one))
    )
    groups = [group for group in networkx.strongly_connected_components(imports) if len(group) > 1]
    return [
        [one for one, _ in networkx.find_cycle(imports.subgraph(group), min(group))]
        for group in sorted(groups, key=min)
    ]
