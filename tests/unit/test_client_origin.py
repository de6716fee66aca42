"""The key goes to the provider's own origin, in a header, and nowhere else."""

import json
from typing import Final

import pytest
from structlog.testing import capture_logs

from backfill.core.wire import Request, Response
from backfill.errors import BackfillError, BadAnswer, ProviderError
from backfill.fetch.retrying import Patience
from backfill.fetch.tally import Tally
from backfill.providers.massive import Massive
from tests.kit import BASE, KEY, Answer, WrittenLedger, WrittenProvider, client, leaping

MASSIVE: Final = Massive()


def read(response: Response) -> bytes:
    MASSIVE.read_splits(response)
    return response.body


GOOD: Final = Answer(b'{"status": "OK"}')


@pytest.mark.parametrize(
    ("base", "target", "url"),
    [
        (BASE, "/bars", f"{BASE}/bars"),
        (f"{BASE}/", "/bars", f"{BASE}/bars"),
        (f"{BASE}/proxy/massive", "/bars", f"{BASE}/proxy/massive/bars"),
        (f"{BASE}/proxy/massive/", "/bars", f"{BASE}/proxy/massive/bars"),
        (BASE, f"{BASE}/next?cursor=abc", f"{BASE}/next?cursor=abc"),
        (BASE, "https://PROVIDER.test/next", f"{BASE}/next"),
        (BASE, f"{BASE}:443/next", f"{BASE}/next"),
        ("https://Provider.Test", f"{BASE}/next", f"{BASE}/next"),
        (f"{BASE}:443", f"{BASE}/next", f"{BASE}/next"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/next", "http://127.0.0.1:8080/next"),
    ],
)
@leaping
async def test_the_key_goes_with_every_request_to_the_provider_in_a_header_only(
    base: str, target: str, url: str
) -> None:
    provider = WrittenProvider(GOOD)
    with provider.answering():
        async with client(WrittenLedger(), base_url=base) as sender:
            await sender.fetch(Request(target, {}), read, "A d1")
    [asked] = provider.asked
    assert asked.url == url
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    others = {name: text for name, text in asked.headers.items() if name != "Authorization"}
    assert KEY not in f"{asked.url} {others}"


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.test/next",
        "http://provider.test/next",
        "https://provider.test:8443/next",
        "https://provider.test.evil.test/next",
        "https://evil.test/https://provider.test/next",
        "https://provider.test@evil.test/next",
        "https://user:word@provider.test/next",
        "https://provider.test\\@evil.test/next",
        "https://evil.test\\@provider.test/next",
        "//evil.test/next",
        "@evil.test/next",
        ".evil.test/next",
        ":8443/next",
        "next",
        "ftp://provider.test/next",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://",
        "https://[::1",
        "https://provider.test:port/next",
        "https://provider.test:99999/next",
        "",
        "\n",
        "https://provider.test\x00.evil.test/",
        "https:provider.test/next",
    ],
)
@leaping
async def test_a_next_page_at_another_origin_is_refused_before_anything_is_sent(
    target: str,
) -> None:
    provider, tally = WrittenProvider(repeat_last=True), Tally()
    with provider.answering():
        async with client(WrittenLedger(), tally=tally) as sender:
            with pytest.raises(BadAnswer):
                await sender.fetch(Request(target), read, "A d1")
    assert provider.asked == []
    assert tally == Tally()


@leaping
async def test_the_other_host_gets_the_key_with_the_requests_that_are_for_it_alone() -> None:
    provider, other = WrittenProvider(GOOD, GOOD), "https://other.test"
    with provider.answering():
        async with client(WrittenLedger(), other_url=f"{other}/") as sender:
            await sender.fetch(Request("/assets", at_other=True), read, "A")
            await sender.fetch(Request("/bars"), read, "A d1")
            for strange in (Request(f"{other}/bars"), Request(f"{BASE}/assets", at_other=True)):
                with pytest.raises(BadAnswer):
                    await sender.fetch(strange, read, "A d1")
    assert [asked.url for asked in provider.asked] == [f"{other}/assets", f"{BASE}/bars"]
    assert {asked.headers["Authorization"] for asked in provider.asked} == {f"Bearer {KEY}"}


@leaping
async def test_a_slash_more_or_less_never_leads_to_another_host() -> None:
    provider = WrittenProvider(GOOD)
    with provider.answering():
        async with client(WrittenLedger()) as sender:
            await sender.fetch(Request("/next//evil.test"), read, "A d1")
    assert [asked.url for asked in provider.asked] == [f"{BASE}/next//evil.test"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@leaping
async def test_redirects_are_not_followed(status: int) -> None:
    elsewhere = Answer(b"", status, {"Location": "https://evil.test/"})
    provider = WrittenProvider(elsewhere)
    with provider.answering():
        async with client(WrittenLedger()) as sender:
            with pytest.raises(ProviderError, match=str(status)):
                await sender.fetch(Request("/bars"), read, "A d1")
    assert [asked.url for asked in provider.asked] == [f"{BASE}/bars"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
@leaping
async def test_a_refusal_that_repeats_the_key_does_not_give_it_away(status: int) -> None:
    body = f'{{"status":"ERROR","error":"Unknown API Key: {KEY}"}}'.encode()
    provider = WrittenProvider(Answer(body, status), repeat_last=True)
    patience = Patience(attempts=2, rate_limited_s=7.0)
    with provider.answering(), capture_logs() as events:
        async with client(WrittenLedger(), patience=patience) as sender:
            with pytest.raises(BackfillError, match="Unknown API Key") as refused:
                await sender.fetch(Request("/bars"), read, "A d1")
    assert KEY not in f"{refused.value!r} {events}"


@pytest.mark.parametrize(
    "spelled",
    [KEY, KEY.replace("k", r"\u006b"), KEY.replace("-", "%2d"), KEY.replace("-", r"\u00252D")],
    ids=["as-it-is", "as-json", "as-a-url", "as-a-url-in-json"],
)
@leaping
async def test_nobody_reads_a_key_that_an_answer_repeats(spelled: str) -> None:
    body = f'{{"status":"OK","note":"x{spelled}y","more":1.5}}'.encode()
    provider = WrittenProvider(Answer(body))
    with provider.answering():
        async with client(WrittenLedger()) as sender:
            found = await sender.fetch(Request("/bars"), read, "A d1")
    assert json.loads(found) == {"status": "OK", "note": "x***y", "more": 1.5}


@leaping
async def test_a_next_page_whose_address_repeats_the_key_is_not_asked_for() -> None:
    def next_of(response: Response) -> Request:
        return Request(json.loads(response.body)["next_url"])

    body = json.dumps({"next_url": f"{BASE}/bars?cursor=1&apiKey={KEY}"}).encode()
    provider = WrittenProvider(Answer(body))
    with provider.answering():
        async with client(WrittenLedger()) as sender:
            following = await sender.fetch(Request("/bars"), next_of, "A d1")
            with pytest.raises(BadAnswer, match="repeats the key"):
                await sender.fetch(following, read, "A d1")
    assert len(provider.asked) == 1


@leaping
async def test_a_key_far_behind_blanks_is_not_cut_in_half() -> None:
    body = json.dumps({"status": "ERROR", "error": " " * 9_955 + KEY}).encode()
    provider = WrittenProvider(Answer(body, 400))
    with provider.answering():
        async with client(WrittenLedger()) as sender:
            with pytest.raises(BackfillError) as refused:
                await sender.fetch(Request("/bars"), read, "A d1")
    assert KEY[:4] not in str(refused.value)
