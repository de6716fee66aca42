"""What can be the address of a service."""

from urllib.parse import urlsplit


def is_base_url(url: str) -> bool:
    """Whether paths can be added to a URL; a user, a query or a fragment has no place in it."""
    parts = urlsplit(url) if is_web_url(url) else None
    return parts is not None and not (parts.query or parts.fragment or "@" in parts.netloc)


def is_web_url(url: str) -> bool:
    """Whether a text is the address of something on the web."""
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_is_one
