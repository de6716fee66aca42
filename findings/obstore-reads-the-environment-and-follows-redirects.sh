#!/usr/bin/env bash
# obstore 0.12.1 does more than sign and send. A guess is that a store with a key of its own, and
# with max_retries=0, sends one request to its endpoint and nothing of anybody else's.
#
# Output seen:
#   requests with max_retries=0 for a 503: 1
#   a session token of the environment goes along: True
#   AWS_SKIP_SIGNATURE drops the signature: True
#   HTTP_PROXY of the environment is gone through: True
#   with the environment apart while the store is opened: True, False, False
#   a redirect to another host is followed, with the signature: False
#   a body cut short raises: GenericError
#   the status of a 503 is told by its type: False
#
# What follows here: fetch/objects.py takes AWS_* and *_PROXY out of the environment while it opens a
# store, brings the keys by a credential provider, and reads the status out of the message. That a
# redirect is followed can't be turned off; the keys don't go to another host.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --disable-pip-version-check install --quiet obstore==0.12.1
cat > "$folder/look.py" <<'PYTHON'
import os
import threading
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import obstore
from obstore.store import S3Store

seen = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        seen.append((self.server.server_port, self.path, dict(self.headers)))
        if self.path.endswith("/busy"):
            self.send_error(503)
        elif self.path.endswith("/moved"):
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{other.server_port}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", "10" if self.path.endswith("/cut") else "2")
            self.end_headers()
            self.wfile.write(b"ok")
            self.close_connection = True

    def log_message(self, *_):
        pass


def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made


here, other = server(), server()


def store(**options):
    return S3Store(
        "bucket",
        endpoint=f"http://127.0.0.1:{here.server_port}",
        access_key_id="id",
        secret_access_key="secret",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
        **options,
    )


def asked(opened, path="file"):
    seen.clear()
    try:
        obstore.get(opened, path).bytes()
    except Exception as error:
        return error, list(seen)
    return None, list(seen)


@contextmanager
def environment(**said):
    os.environ.update(said)
    yield
    for name in said:
        del os.environ[name]


def headers(calls):
    return {name.lower() for name in calls[-1][2]}


error, calls = asked(store(), "busy")
print("requests with max_retries=0 for a 503:", len(calls))
by_type = type(error).__name__ != "GenericError"
with environment(AWS_SESSION_TOKEN="another's"):
    print("a session token of the environment goes along:",
          "x-amz-security-token" in headers(asked(store())[1]))
with environment(AWS_SKIP_SIGNATURE="true"):
    print("AWS_SKIP_SIGNATURE drops the signature:",
          "authorization" not in headers(asked(store())[1]))
with environment(http_proxy=f"http://127.0.0.1:{other.server_port}"):
    print("HTTP_PROXY of the environment is gone through:",
          asked(store())[1][0][0] == other.server_port)
opened = store()
with environment(AWS_SESSION_TOKEN="another's", AWS_SKIP_SIGNATURE="true",
                 http_proxy=f"http://127.0.0.1:{other.server_port}"):
    _, calls = asked(opened)
    print("with the environment apart while the store is opened:",
          f"{'authorization' in headers(calls)}, {'x-amz-security-token' in headers(calls)},",
          calls[0][0] == other.server_port)
_, calls = asked(store(), "moved")
assert calls[-1][1] == "/elsewhere"
print("a redirect to another host is followed, with the signature:",
      "authorization" in headers(calls))
print("a body cut short raises:", type(asked(store(), "cut")[0]).__name__)
print("the status of a 503 is told by its type:", by_type)
PYTHON
env -u http_proxy -u HTTP_PROXY -u no_proxy -u NO_PROXY \
    "$folder/venv/bin/python" "$folder/look.py" | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
requests with max_retries=0 for a 503: 1
a session token of the environment goes along: True
AWS_SKIP_SIGNATURE drops the signature: True
HTTP_PROXY of the environment is gone through: True
with the environment apart while the store is opened: True, False, False
a redirect to another host is followed, with the signature: False
a body cut short raises: GenericError
the status of a 503 is told by its type: False
SEEN
