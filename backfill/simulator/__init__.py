"""One deterministic market behind the wire protocols of many providers, on loopback.

For the demo, the tests and the benchmark. `Market` says what every bar is; `Simulator` serves it by
one of the `WIRES` and does it wrong as `Fault` says. It shares no calendar, roll-up or check with
the rest of the package: it is what they are held to.
"""

from backfill.simulator.actions import Action
from backfill.simulator.calls import Call
from backfill.simulator.faults import Fault
from backfill.simulator.market.listings import Dividend, Listing, Split
from backfill.simulator.market.market import Market
from backfill.simulator.server import Simulator, run_in_thread, serve
from backfill.simulator.wire.known import WIRES

__all__ = [
    "WIRES",
    "Action",
    "Call",
    "Dividend",
    "Fault",
    "Listing",
    "Market",
    "Simulator",
    "Split",
    "run_in_thread",
    "serve",
]
