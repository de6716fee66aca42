"""The token shown once, in a form: from then on a cookie stands for it, which scripts don't see."""

import time
from typing import Final
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from backfill.serve.guard import Guard
from backfill.serve.html import TYPE, html

GUARD: Final = web.AppKey("guard", Guard)
COOKIE: Final = "backfill_serve"
PATH: Final = "/login"
_AS_SENT: Final = "application/x-www-form-urlencoded"


def form(leads_to: str, *, status: int, refused: bool = False) -> web.Response:
    """Return the form that asks for the token, and leads to a page of ours."""
    return web.Response(
        text=html("login.html", next=leads_to, refused=refused),
        content_type=TYPE,
        status=status,
        # Without a referrer a browser wouldn't say either which origin sends the form.
        headers={"Referrer-Policy": "same-origin", hdrs.CACHE_CONTROL: "no-store"},
    )


def shows_token(request: web.Request, guard: Guard) -> bool:
    """Whether a request shows the token, as a bearer or by the cookie that stands for it."""
    if guard.token is None:
        return True
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return guard.takes(token.strip())
    cookie = request.cookies.get(COOKIE)
    return cookie is not None and guard.takes_cookie(cookie, int(time.time()))


async def _asked(_request: web.Request) -> web.Response:
    return form("/", status=200)


async def _shown(request: web.Request) -> web.Response:
    """Take the token of the form, and give a cookie for it."""
    guard, sent = request.app[GUARD], await _sent(request)
    leads_to = _own(sent.get("next", "/"))
    if not guard.takes(sent.get("token", "").strip()):
        return form(leads_to, status=403, refused=True)
    value, lasts_s = guard.cookie(int(time.time()))
    answer = web.Response(status=303, headers={hdrs.LOCATION: leads_to})
    answer.set_cookie(
        COOKIE,
        value,
        max_age=lasts_s,
        path="/",
        httponly=True,
        samesite="Strict",
        secure=request.headers.get(hdrs.ORIGIN, "").startswith("https:"),
    )
    return answer


async def _sent(request: web.Request) -> dict[str, str]:
    """Return what the form sent; of anything that no form of ours sends, nothing but a refusal."""
    if request.content_type != _AS_SENT:
        raise web.HTTPUnsupportedMediaType(text=f"the form comes as {_AS_SENT}")
    try:
        body = await request.read()
    except web.RequestPayloadError:
        raise web.HTTPBadRequest(text="what came with the request can't be read") from None
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _own(address: str) -> str:
    """Return an address if it is one of this server's, by its path; the front page's if not."""
    is_own = address.startswith("/") and address[1:2] not in {"/", "\\"} and address.isprintable()
    return address if is_own else "/"


ROUTES: Final = (web.get(PATH, _asked), web.post(PATH, _shown))
