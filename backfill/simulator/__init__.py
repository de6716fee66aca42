"""A deterministic market behind the Massive wire protocol, on loopback.

For the demo, the tests and the benchmark. `Market` says what every bar is; `Simulator` serves it
and does it wrong as `Fault` says. It shares no calendar, roll-up or check with the rest of the
package: it is what they are held to.
"""

from backfill.simulator.calls import Call
from backfill.simulator.faults import Action, Fault
from backfill.simulator.market.market import Market
from backfill.simulator.server import Simulator, run_in_thread, serve
from backfill.simulator.wire.listings import Dividend, Listing, Split

__all__ = [
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
