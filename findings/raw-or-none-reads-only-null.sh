#!/usr/bin/env bash
# msgspec 0.22.0: a field of the type `Raw | None` takes null and nothing else. A guess is that it
# keeps whatever stands there, as `Raw` does, and is None where nothing does; checkers of types
# agree, and so does every body without the field. The first that has it is refused.
#
# Output seen:
#   Raw          absent: null    null: null    "1": "1"
#   Raw | None   absent: None    null: None    "1": refused
#
# What follows here: values that are read as they came are `Raw`, with Raw(b"null") for none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check msgspec==0.22.0
"$folder/venv/bin/python" - <<'PYTHON'
import msgspec


class Plain(msgspec.Struct):
    value: msgspec.Raw = msgspec.Raw(b"null")


class OrNone(msgspec.Struct):
    value: msgspec.Raw | None = None


def read(kind, body):
    try:
        value = msgspec.json.decode(body, type=kind).value
    except msgspec.ValidationError:
        return "refused"
    return "None" if value is None else bytes(value).decode()


BODIES = {"absent": b"{}", "null": b'{"value":null}', '"1"': b'{"value":"1"}'}
EXPECTED = {Plain: ["null", "null", '"1"'], OrNone: ["None", "None", "refused"]}
for kind, expected in EXPECTED.items():
    found = [read(kind, body) for body in BODIES.values()]
    name = "Raw" if kind is Plain else "Raw | None"
    told = "    ".join(f"{what}: {value}" for what, value in zip(BODIES, found, strict=True))
    print(f"{name:<12} {told}")
    assert found == expected, found
PYTHON
