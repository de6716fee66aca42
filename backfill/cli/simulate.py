"""The simulated provider as a command: a market on loopback, and how to be its customer."""

import asyncio
import contextlib
import shlex
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from textwrap import fill, indent

from backfill.cli import edge
from backfill.core.plain import json_text
from backfill.core.terms import Quota
from backfill.errors import UsageError
from backfill.settings import Settings
from backfill.settings.account import variables_of
from backfill.simulator import WIRES, Market, Simulator
from backfill.simulator import serve as serve_simulator


def serve(
    *,
    provider: str,
    port: int,
    key: str,
    quota: str | None,
    plan: str,
    now: datetime | None,
    seed: int,
) -> None:
    """Serve the simulated market until a signal comes.

    Its URL is one JSON line on stdout; how it is used, and what it has, are the lines after it.

    Raises
    ------
    UsageError
        If the provider has no wire, or the quota or the plan is none.
    """
    if provider not in WIRES:
        raise UsageError(f"provider {provider!r} has no simulator: choose from {', '.join(WIRES)}")
    if quota is None:
        quota = str(Settings().account(provider).provider.terms["free"].quota)
    Quota.parse(quota)
    if plan not in {"free", "unlimited"}:
        raise UsageError(f"plan {plan!r} is neither free nor unlimited")
    simulator = Simulator(
        provider=provider,
        market=Market(seed=seed),
        key=key,
        quota=quota,
        plan="free" if plan == "free" else "unlimited",
        now=now,
        tells_time=True,
        port=port,
    )

    def tell(url: str) -> None:
        edge.say(json_text({"url": url, "key": key, "quota": quota}))
        edge.say("\n".join(directions(simulator, quota)))

    async def until_signal() -> None:
        task = asyncio.ensure_future(serve_simulator(simulator, tell))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(until_signal())


def directions(simulator: Simulator, quota: str) -> Iterator[str]:
    """Yield what a shell has to be told to use a simulator that runs, and the tickers it knows."""
    provider = Settings().account(simulator.wire.name).provider
    known = simulator.wire.tickers(simulator.market)
    named = [one for one in known if not one[-3:].isdigit()]
    numbered = [one for one in known if one not in named]
    some = [one for one in ("AAPL", "X:BTCUSD", "X:BTCUSDT") if one in known][:2]
    clock = f"--as-of {simulator.now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    yield "\nIn another terminal:\n"
    yield f"  export BACKFILL_PROVIDER={provider.name}"
    yield f"  export BACKFILL_PROVIDER_URL={simulator.url}"
    for beside in ("other_url", "archive_url"):
        if (variable := variables_of(provider).get(beside)) is not None:
            yield f"  export {variable.names[0]}={simulator.url}"
    for variables in provider.key_variables:
        yield f"  export {variables[0]}={shlex.quote(simulator.key)}"
    yield f"  export BACKFILL_PLAN={simulator.plan}"
    yield f"  export BACKFILL_QUOTA={quota}"
    yield f"  backfill run {' '.join([*some, *([clock] if simulator.stands_still else [])])}"
    yield "\nWithout DATABASE_URL an embedded Postgres keeps the bars. The tickers:\n"
    yield indent(fill(" ".join(named), 76), "  ")
    if numbered:
        yield f"  {numbered[0]} … {numbered[-1]}"
    yield "\nCtrl-C ends it."
