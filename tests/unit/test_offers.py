"""What each provider offers is told from what the planner itself asks it for."""

from typing import Final

import pytest

from backfill.core.timeframe import Timeframe
from backfill.present import providers as present
from backfill.providers import PROVIDERS
from backfill.settings import AccountSettings, Settings
from backfill.settings.environment import Secret
from backfill.settings.offers import Offer, offers

KEY: Final = "not-to-be-told"


def offered(**accounts: AccountSettings) -> dict[str, Offer]:
    return {one.name: one for one in offers(Settings(accounts=accounts))}


def test_every_provider_is_listed_with_all_that_it_has() -> None:
    found = offered()
    assert list(found) == list(PROVIDERS)
    massive, binance = found["massive"], found["binance"]
    stock, crypto, fx = massive.markets
    assert (stock.asset_type, stock.derived) == ("stock", {Timeframe.h4: Timeframe.h1})
    assert crypto.derived == {Timeframe.h4: Timeframe.h1, Timeframe.w1: Timeframe.d1}
    longer = (Timeframe.h4, Timeframe.d1, Timeframe.w1, Timeframe.mn1)
    assert (fx.asset_type, fx.derived) == ("fx", dict.fromkeys(longer, Timeframe.h1))
    assert massive.is_default
    assert [one.native for one in binance.markets] == [tuple(Timeframe)]
    assert (binance.quota, binance.cost, binance.keys, binance.missing) == ("6000/60s", 2, (), None)


@pytest.mark.parametrize(("key", "told"), [(None, "not set: MASSIVE_API_KEY"), (KEY, "set")])
def test_whether_a_key_is_set_is_told_and_never_the_key(
    key: str | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = (Secret(key),) if key else ()
    found = offered(massive=AccountSettings(keys=keys, quota="7/60s"))
    assert (found["massive"].missing is None) is bool(key)
    present.listed(found.values())
    printed = capsys.readouterr().out
    assert "7/60s" in printed
    [row, *_] = [line for line in printed.splitlines() if line.startswith("massive")]
    assert row.rstrip().endswith(told)
    assert KEY not in f"{printed}{present.as_dict(found.values())}{found}"
