"""For those who write backends: the contract as an executable checker, and blocking reference peers.

It needs the standard library and loopmark's core, no test framework.
"""

from loopmark.testing.contract import CLAUSES, ContractError, Finding, Status, check_backend, require_kept
from loopmark.testing.endpoint import End, Endpoint
from loopmark.testing.peers import ReferenceServer, call, dial

__all__ = [
    "CLAUSES",
    "ContractError",
    "End",
    "Endpoint",
    "Finding",
    "ReferenceServer",
    "Status",
    "call",
    "check_backend",
    "dial",
    "require_kept",
]
