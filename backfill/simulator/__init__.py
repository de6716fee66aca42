"""A deterministic market behind the Massive wire protocol, on loopback.

For the demo, the tests and the benchmark. `Market` says what every bar is; `Simulator` serves it.
It shares no calendar, roll-up or check with the rest of the package: it is what they are held to.
"""

from backfill.simulator.market import Market
from backfill.simulator.server import Call, Simulator, run_in_thread, serve

__all__ = ["Call", "Market", "Simulator", "run_in_thread", "serve"]
