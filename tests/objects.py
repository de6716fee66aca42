"""A bucket that speaks as much of S3 as an export asks of it, in memory, on loopback."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import escape
from urllib.parse import quote

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass
class Bucket:
    """What was put there, by key; and where it is."""

    name: str = "bars"
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    port: int = 0

    def url(self, prefix: str) -> str:
        """The address of a prefix, as pyarrow takes it."""
        endpoint = quote(f"127.0.0.1:{self.port}", safe="")
        return f"s3://{self.name}/{prefix}?scheme=http&endpoint_override={endpoint}&region=x"

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve it."""
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self.handle)
        async with TestServer(app) as server:
            self.port = server.port or 0
            yield

    async def handle(self, request: web.Request) -> web.Response:
        bucket, _, key = request.path.removeprefix("/").partition("/")
        self.asked.append(f"{request.method} {request.path_qs}")
        if bucket != self.name:
            return _xml("<Error><Code>NoSuchBucket</Code></Error>", 404)
        body = _content(request, await request.read())
        match request.method:
            case "HEAD" | "GET" if key:
                return self._object(request, key)
            case "HEAD" | "GET":
                return self._listed(request.query)
            case "PUT":
                return self._put(request.query, key, body)
            case "POST":
                return self._posted(request.query, key)
        self.objects.pop(key, None)
        return web.Response(status=204)

    def _put(self, asked: Mapping[str, str], key: str, body: bytes) -> web.Response:
        if "uploadId" in asked:
            self.parts[asked["uploadId"]][int(asked["partNumber"])] = body
        else:
            self.objects[key] = body
        return web.Response(headers={"ETag": '"1"'})

    def _posted(self, asked: Mapping[str, str], key: str) -> web.Response:
        if "uploads" in asked:
            upload = str(len(self.parts))
            self.parts[upload] = {}
            return _xml(
                f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId>"
                "</InitiateMultipartUploadResult>"
            )
        parts = self.parts[asked["uploadId"]]
        self.objects[key] = b"".join(parts[number] for number in sorted(parts))
        return _xml("<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>")

    def _object(self, request: web.Request, key: str) -> web.Response:
        if key not in self.objects:
            return _xml("<Error><Code>NoSuchKey</Code></Error>", 404)
        held = self.objects[key]
        if (wanted := request.http_range).start is not None:
            return web.Response(body=held[wanted], status=206)
        return web.Response(body=held)

    def _listed(self, asked: Mapping[str, str]) -> web.Response:
        prefix = asked.get("prefix", "")
        keys = [key for key in sorted(self.objects) if key.startswith(prefix)]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.objects[key])}</Size>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
            for key in keys
        )
        return _xml(
            f"<ListBucketResult><Name>{self.name}</Name><KeyCount>{len(keys)}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        )


def _content(request: web.Request, body: bytes) -> bytes:
    """What a body holds, which may come in signed chunks, each behind its length."""
    if "aws-chunked" not in request.headers.get("Content-Encoding", ""):
        return body
    content = b""
    while True:
        head, _, body = body.partition(b"\r\n")
        length = int(head.partition(b";")[0], 16)
        if not length:
            return content
        content, body = content + body[:length], body[length + 2 :]


def _xml(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="application/xml")
