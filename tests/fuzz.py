"""A provider whose answers are grown from recorded ones: in value, in spelling, on the wire.

All is drawn from one generator, so a seed gives the same answers to the same calls. What is drawn
is hostile in what it says and harmless to whatever else may read it: depths, lengths and numbers
are bounded.
"""

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

_RECORDED: Final = Path(__file__).parent / "fixtures" / "massive"
_MOST_DEEP: Final = 60
_STANDARD_TIME: Final = date(2024, 11, 3)

_TEXTS: Final = (
    "", " ", "x", "AAPL", "OK", "ERROR", "NOT_FOUND", "null", "NaN", "-1", "2024-02-30",
    "9999-12-31", "0001-01-01", "2024-11-05T00:00:00Z", "\0", "a\0b", "\x1b[31m", "\x1b]0;x\x07",
    "\u202e", "\u2028", "[/]", "[link=x]y[/link]", ":smile:", "##[error]", "::error::x",
    "\n::add-mask::x", "| a |", "`", "\\", '"', "me@mail.example", "@you", "<img src=y>",
    "[z](http://evil.test)", "%00", "'; --", "\U0001f600", "é" * 400, "word " * 400,
)  # fmt: skip
_NUMBERS: Final = (
    0, -0.0, -1, 1, 0.1, 1e-300, 1e300, 1.7976931348623157e308, 2**31, 2**53 + 1, 2**63 - 1, 2**63,
    -(2**63), 2**64, 10**19, 10**40, -62_135_596_800_000, 253_402_300_800_000, 1_700_000_000,
    1_700_000_000_000_000,
)  # fmt: skip
_TOKENS: Final = (
    "NaN", "Infinity", "-Infinity", "1e400", "1" * 300, "0x1", "01", ".5", '"\\ud800"', '"\\u0000"',
    '"\\x"', "nul", "undefined", "// x", "'x'",
)  # fmt: skip
_CHARSETS: Final = ("utf-8", "utf-16", "utf-16-be", "utf-32", "latin-1", "utf-7")
_STATUSES: Final = (200, 200, 204, 206, 302, 400, 400, 403, 404, 404, 410, 422, 500, 503, 599)


class Grower:
    """Draws the answers of a provider that repeats a key wherever it can.

    ``altered`` is the share of answers that are not as they were recorded; ``counts`` tells how
    many of each kind were given.
    """

    def __init__(self, key: str) -> None:
        self.drawn = random.Random(0)
        self.altered = 0.5
        self.counts: Counter[str] = Counter()
        self._key = key
        self._ways: dict[Callable[[Any], web.Response], int] = {
            self._values: 60,
            self._spelling: 12,
            self._bytes: 10,
            self._headers: 10,
            self._refusal: 8,
        }

    def answer(self, path: str, query: dict[str, str]) -> web.Response:
        """Return the answer to a call; the path is as it reads once it is decoded."""
        body = _recorded(path, query)
        if self.drawn.random() >= self.altered:
            self.counts["as recorded"] += 1
            return web.json_response(body)
        [way] = self.drawn.choices(list(self._ways), list(self._ways.values()))
        self.counts[way.__name__.strip("_")] += 1
        return way(body)

    def _values(self, body: Any) -> web.Response:
        """Types swapped, fields dropped, doubled, renamed and in no order, texts and numbers."""
        for _ in range(self.drawn.choice((1, 1, 1, 2, 3, 8))):
            body = self._altered(body)
        return _json(self._written(body))

    def _altered(self, value: Any) -> Any:
        """Return a value in which one node, drawn at random, is another."""
        holder, name = self.drawn.choice(list(_nodes(value)))
        if holder is None:
            return self._other(value)
        match self.drawn.randrange(8):
            case 0:
                del holder[name]
            case 1 if isinstance(holder, list):
                holder.insert(name, holder[name])
            case 1:
                holder[self.drawn.choice((name.upper(), f"{name} ", self._text()))] = holder[name]
            case 2 if isinstance(holder, list):
                self.drawn.shuffle(holder)
            case 2:
                other = self.drawn.choice(list(holder))
                holder[name], holder[other] = holder[other], holder[name]
            case _:
                holder[name] = self._other(holder[name])
        return value

    def _other(self, value: Any) -> Any:
        drawn = self.drawn
        is_number = isinstance(value, int | float)
        near = value * drawn.choice((-1, 1e-3, 1e3, 1.0001)) if is_number else str(value)[:100]
        nested = _nested(drawn.randrange(1, _MOST_DEEP), value)
        odd = (None, drawn.choice((True, False)), near, nested)
        around: Any = drawn.choice(([], {}, [value], {"x": value}, [[]] * 50))
        return drawn.choice((*odd, around, self._text(), self._text(), *drawn.sample(_NUMBERS, 2)))

    def _text(self) -> str:
        text = self.drawn.choice(_TEXTS)
        if self.drawn.random() < 0.5:
            key = self.drawn.choice(
                (self._key, f"Bearer {self._key}", f"?apiKey={quote(self._key, safe='')}")
            )
            return self.drawn.choice((text, "x" * 195, " " * 9_990, "")) + key
        return text

    def _written(self, body: Any) -> bytes:
        """Return JSON, in which the key may be escaped."""
        text = json.dumps(body, ensure_ascii=self.drawn.random() < 0.8)
        if self.drawn.random() < 0.3:
            signs = (
                f"\\u{ord(sign):04x}" if self.drawn.random() < 0.3 else sign for sign in self._key
            )
            text = text.replace(self._key, "".join(signs))
        return text.encode()

    def _spelling(self, body: Any) -> web.Response:
        """What JSON may look like, and what looks like JSON."""
        text = json.dumps(body)
        if self.drawn.random() < 0.6:
            at = self.drawn.choice([at for at, sign in enumerate(text) if sign == ":"]) + 1
            end = min(found for sign in ",}]" if (found := text.find(sign, at)) > 0)
            return _json(f"{text[:at]}{self.drawn.choice(_TOKENS)}{text[end:]}".encode())
        doubled = f"{{{text[1 : text.find(',')]},{text[1:]}"
        spaced = text.replace(":", " : ").replace(",", "\n,\t")
        other = self.drawn.choice(
            (
                doubled, spaced, text + text, f"{text}x", f"\ufeff{text}", text[: len(text) // 2],
                f"[{text}]", "", " ", "null", "[]", "{}", '"' + '\\"' * 200,
                f"<html><title>{self._key}</title></html>", f'{{"status":"OK","x":"{self._key}',
            )
        )  # fmt: skip
        return _json(other.encode())

    def _bytes(self, body: Any) -> web.Response:
        """What may become of a body on its way."""
        drawn, whole = self.drawn, self._written(body)
        packed = gzip.compress(whole, 1)
        at = drawn.randrange(len(packed))
        flipped = packed[:at] + bytes([packed[at] ^ 1 << drawn.randrange(8)]) + packed[at + 1 :]
        encoding, data = drawn.choice(
            (
                ("gzip", packed[:at]), ("gzip", flipped), ("gzip", whole), ("x-gzip", packed),
                ("GZIP", packed), ("gzip", packed + packed), ("gzip", packed + b"tail"),
                ("deflate", whole), ("br", whole), (self._key, whole), ("identity", packed),
                ("gzip", b""), ("identity", drawn.randbytes(300)),
            )
        )  # fmt: skip
        return _json(data, {"Content-Encoding": encoding})

    def _headers(self, body: Any) -> web.Response:
        """What may be said of a body that it isn't."""
        key, charset = self._key, self.drawn.choice(_CHARSETS)
        kind = self.drawn.choice(
            (
                "text/html", "application/octet-stream", f"application/json; charset={charset}",
                "application/json; charset=none-such", "x", "", f"text/plain; x={key}",
            )
        )  # fmt: skip
        more = self.drawn.choice(
            (
                {}, {"Date": "yesterday"}, {"Date": key}, {"Retry-After": key}, {"X-Key": key},
                {"Date": "Mon, 31 Feb 0000 99:99:99 GMT"}, {"Set-Cookie": f"k={key}"},
                {"Location": f"https://evil.test/{key}"}, {"Warning": "é"},
            )
        )  # fmt: skip
        data = json.dumps(body, ensure_ascii=False).encode(charset, "replace")
        return _json(data, {"Content-Type": kind, **more})

    def _refusal(self, body: Any) -> web.Response:
        """A refusal, or what says that it is none."""
        said = {
            "status": self.drawn.choice(("ERROR", "OK", "NOT_FOUND", self._text())),
            self.drawn.choice(("error", "message", "x")): self._text(),
        }
        data = self.drawn.choice(
            (self._written(said), self._written(body), b"", self._key.encode())
        )
        return _json(data, {"Location": f"/?k={self._key}"}, self.drawn.choice(_STATUSES))


def _json(data: bytes, headers: dict[str, str] | None = None, status: int = 200) -> web.Response:
    return web.Response(
        body=data, status=status, headers={"Content-Type": "application/json", **(headers or {})}
    )


def _nodes(value: Any, holder: Any = None, name: Any = None) -> Iterator[tuple[Any, Any]]:
    """Every node of a value, as what holds it and its place there; the whole is held by none."""
    yield holder, name
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    if isinstance(value, list):
        inner = list(enumerate(value[:20]))
    for place, one in inner:
        yield from _nodes(one, value, place)


def _nested(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def _recorded(path: str, query: dict[str, str]) -> Any:
    """What was recorded for such a call, of the ticker and the days of this one."""
    parts = path.split("/")
    if path.startswith("/v2/aggs/ticker/"):
        return _aggregates(parts[4], parts[7], parts[8], parts[9], query)
    if path.startswith("/v2/aggs/grouped/"):
        return _grouped(parts[-1], query)
    if path.startswith("/vX/"):
        return _read("events-META.json")
    if path.startswith("/v3/reference/tickers/"):
        body = _read("ticker-AAPL.json")
        body["results"]["ticker"] = parts[-1]
        return body
    if path == "/v3/reference/tickers":
        body = _read("tickers-page1.json")
        body["results"][0]["ticker"] = query["ticker.gte"]
        del body["next_url"]
        return body
    body = _read("splits.json" if "splits" in path else "dividends.json")
    day = "execution_date" if "splits" in path else "ex_dividend_date"
    for number, row in enumerate(body["results"][:3]):
        row |= {"ticker": f"F{number}", day: "2024-11-04"}
    return body


def _read(name: str) -> Any:
    return json.loads((_RECORDED / name).read_text())


def _aggregates(
    ticker: str, timespan: str, first: str, last: str, query: dict[str, str]
) -> dict[str, Any]:
    body: dict[str, Any] = _read("aggs-AAPL-day-2005-04-01-2005-04-04.json")
    starts = _starts(timespan, first, last)
    bars = [{**body["results"][at % 2], "t": start} for at, start in enumerate(starts)]
    return body | {
        "ticker": ticker,
        "adjusted": query["adjusted"] == "true",
        "results": bars[::-1] if query["sort"] == "desc" else bars,
        **dict.fromkeys(("queryCount", "resultsCount", "count"), len(bars)),
    }


def _starts(timespan: str, first: str, last: str) -> list[int]:
    """Stamps of a range: New York's midnights, Mondays or weekdays, or hours; some hundred."""
    if not first.isdigit():
        day, end = date.fromisoformat(first), date.fromisoformat(last)
        days = [day + timedelta(n) for n in range((end - day).days + 1)]
        kept = range(1) if timespan == "week" else range(5)
        return [_midnight_ms(one) for one in days if one.weekday() in kept]
    hour = 3_600_000
    return list(range(int(first) - int(first) % hour, int(last), hour))[-300:]


def _midnight_ms(day: date) -> int:
    at = datetime.combine(day, time(5 if day > _STANDARD_TIME else 4), UTC)
    return round(at.timestamp() * 1000)


def _grouped(day: str, query: dict[str, str]) -> dict[str, Any]:
    body: dict[str, Any] = _read("grouped-stocks.json")
    start = _midnight_ms(date.fromisoformat(day))
    bars = [{**body["results"][0], "T": f"F{number}", "t": start} for number in range(30)]
    counts = dict.fromkeys(("queryCount", "resultsCount", "count"), len(bars))
    return body | {"adjusted": query["adjusted"] == "true", "results": bars, **counts}
