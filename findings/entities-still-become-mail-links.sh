#!/usr/bin/env bash
# cmarkgfm 2025.10.22 (GitHub's own fork of cmark, which renders its pages): an at sign that is
# written as an entity still makes a mail link of the words around it, in a cell of a table and in
# <code> too. Addresses are looked for in the finished text, where entities are characters again. A
# guess from "entities are never markup" is that &#64; is safe; of a colon and of www. it is true.
#
# Output seen:
#   as it is       a link
#   as an entity   a link
#   in code        a link
#   in an element  no link
#
# What follows here: backfill.core.plain.markdown sets each at sign in an element of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cmarkgfm==2025.10.22
"$folder/venv/bin/python" - <<'PYTHON'
import cmarkgfm
from cmarkgfm.cmark import Options

SPELLED = {
    "as it is": ("me@mail.example", True),
    "as an entity": ("me&#64;mail.example", True),
    "in code": ("<code>me&#64;mail.example</code>", True),
    "in an element": ("me<span>&#64;</span>mail.example", False),
}
for how, (spelled, expected) in SPELLED.items():
    page = f"| why |\n| --- |\n| {spelled} |\n"
    shown = cmarkgfm.github_flavored_markdown_to_html(page, Options.CMARK_OPT_UNSAFE)
    links = "mailto:" in shown
    print(f"{how:<14} {'a link' if links else 'no link'}")
    assert links is expected, shown
PYTHON
