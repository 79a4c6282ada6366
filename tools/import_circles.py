"""A contract for import-linter: no module takes part in a circle of imports, not even through one inside a function.

import-linter's own `acyclic_siblings` looks at packages side by side and so misses a package whose `__init__` and a
module of its own import each other.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output


class NoCircles(Contract):
    """Broken by one circle; imports under TYPE_CHECKING count as the configuration says."""

    type_name = "no_circles"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Looks for a circle in the whole graph."""
        try:
            TopologicalSorter({each: graph.find_modules_directly_imported_by(each) for each in graph.modules}).prepare()
        except CycleError as error:
            return ContractCheck(kept=False, metadata={"circle": error.args[1][::-1]})
        return ContractCheck(kept=True)

    def render_broken_contract(self, check: ContractCheck) -> None:
        """The modules of the circle, each importing the next."""
        output.print_error(" -> ".join(check.metadata["circle"]))
