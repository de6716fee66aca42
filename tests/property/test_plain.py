"""Whatever text others wrote: where it goes, no character of it means anything but itself."""

import html
import json
import re
from typing import Final
from urllib.parse import quote, unquote

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from backfill.core import plain
from backfill.core.redact import Redactor
from backfill.present import markdown

# What somebody obeys somewhere, beside all of Unicode with its lone surrogates.
ORDERS: Final = (
    "::error::", "##[error]", "\n::add-mask::x", "\x1b[31m", "\x1b]8;;x\x07", "\0", "\u202e",
    "\x9b", "[/]", "[link=x]y[/link]", ":smile:", "[z](http://evil.test)", "<img src=y>", "| a |",
    "`", "me@mail.example", "@you", "#123", "www.evil.test", "https://evil.test", "$x$", "__b__",
    "&lt;", '"} 1\n', "\\", "\\u0000", "\ud800", "\udcff", "%0A", "\r", "\u2028",
)  # fmt: skip
HOSTILE: Final = st.lists(
    st.sampled_from(ORDERS) | st.text(st.characters(), max_size=8), max_size=6
).map("".join)
ORDER: Final = re.compile(r"^\s*::", re.MULTILINE)


def obeyed(text: str) -> list[str]:
    """What of a stream a terminal or GitHub's runner would obey."""
    signs = {sign for sign in text if not sign.isprintable() and sign != "\n"}
    return [*signs, *ORDER.findall(text), *re.findall(r"##\[", text)]


@given(HOSTILE)
def test_a_line_is_one_line_that_nobody_obeys(text: str) -> None:
    line = plain.one_line(text)
    assert not obeyed(line)
    assert "\n" not in line
    assert plain.one_line(line) == line


@given(HOSTILE, HOSTILE)
def test_an_annotation_is_one_order_with_its_own_title_and_message(title: str, text: str) -> None:
    order = plain.annotation("error", title, text)
    found = re.fullmatch(r"::error title=([^:,]*)::(.*)", order)
    assert found is not None
    assert order.isprintable()
    assert "##[" not in order
    for part, said in ((found[1], title), (found[2], text)):
        assert unquote(part, errors="strict") == plain.one_line(said)


NESTED: Final = st.recursive(
    HOSTILE | st.floats() | st.integers() | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HOSTILE, inner, max_size=3),
    max_leaves=8,
)


@given(NESTED)
@example("\\\ud800")
@example("\\\\ud800")
@example("\ud83d\ude00")
def test_json_is_read_by_the_strictest_reader_and_printed_without_harm(value: object) -> None:
    text = plain.json_text(value)
    msgspec.json.decode(text)
    assert not re.search("[\ud800-\udfff]", json.dumps(json.loads(text), ensure_ascii=False))
    assert text.isascii()
    assert not obeyed(text)


@given(NESTED.filter(lambda value: max(json.dumps(value, ensure_ascii=False)) < "\ud800"))
def test_json_without_surrogates_says_what_was_said(value: object) -> None:
    said = re.sub(r'(?<![\w"])(NaN|-?Infinity)(?![\w"])', "", json.dumps(value))
    if said == json.dumps(value):
        assert json.loads(plain.json_text(value)) == value


@given(HOSTILE)
def test_what_is_storable_is_unicode_without_nul_and_nothing_else_changes(text: str) -> None:
    kept = plain.storable(text)
    assert "\0" not in kept
    kept.encode()
    assert len(kept) == len(text)
    assert plain.storable(kept) == kept
    if "\0" not in text and not re.search("[\ud800-\udfff]", text):
        assert kept == text


ELEMENTS: Final = re.compile(r"</?(?:span|code)>")


@given(st.lists(HOSTILE, min_size=1, max_size=3))
def test_cells_of_markdown_read_as_their_texts_and_hold_no_markup(texts: list[str]) -> None:
    row = markdown.row(*map(markdown.text, texts))
    assert row.isprintable()
    cells = [cell.strip() for cell in row.removeprefix("|").removesuffix("|").split("|")]
    read = [html.unescape(ELEMENTS.sub("", cell)) for cell in cells]
    assert read == [plain.one_line(text).strip() for text in texts]
    bare = re.sub(r"&#\d+;", "", ELEMENTS.sub("", "".join(cells)))
    assert not re.search(r"[\[\]<>`*_~|@#$:\\&!{}^]|www\.", bare)


@given(HOSTILE)
def test_github_finds_no_address_mention_issue_formula_or_emoji_in_markdown(text: str) -> None:
    # It looks in the texts between elements, once entities are characters again.
    for part in map(html.unescape, ELEMENTS.split(plain.markdown(text))):
        assert part in set("@#$:") or not re.search(r"[@#$]|:[\w+-]+:", part)


@given(HOSTILE)
def test_a_label_is_one_string_of_prometheus(text: str) -> None:
    label = plain.label(text)
    assert re.fullmatch(r'(?:[^"\\\n]|\\["\\n])*', label)
    assert label.isprintable()
    assert "##[" not in label


@given(HOSTILE, HOSTILE)
def test_two_texts_that_differ_in_what_cannot_be_printed_are_two_labels(
    one: str, other: str
) -> None:
    if one != other and "\\" not in one + other and "##[" not in one + other:
        assert plain.label(one) != plain.label(other)


KEYS: Final = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=12)


@st.composite
def spelled(draw: st.DrawFn, key: str) -> str:
    """A key in which each character is spelled in one of the ways of JSON and URLs."""

    def json_sign(sign: str) -> str:
        unit = f"{ord(sign):04x}"
        ways = [f"\\u{unit}", f"\\u{unit.upper()}", json.dumps(sign)[1:-1]]
        return draw(st.sampled_from([*ways, "\\/"] if sign == "/" else ways))

    def sign_of(sign: str) -> str:
        percent = draw(st.sampled_from([f"%{ord(sign):02x}", f"%{ord(sign):02X}"]))
        return "".join(map(json_sign, draw(st.sampled_from([sign, quote(sign, safe=""), percent]))))

    return "".join(map(sign_of, key))


@given(st.data(), KEYS, HOSTILE, HOSTILE)
def test_no_string_of_an_answer_repeats_a_key_however_it_is_spelled(
    data: st.DataObject, key: str, before: str, after: str
) -> None:
    around = [json.dumps(text)[1:-1] for text in (before, after)]
    body = f'{{"said": "{data.draw(spelled(key)).join(around)}"}}'
    blotted = Redactor([key]).body(body.encode("utf-8", "surrogatepass"))
    try:
        said = json.loads(blotted)["said"]
    except ValueError:
        said = blotted.decode()  # nobody reads that
    if key not in before + after and key not in unquote(before + after):
        assert key not in said
        assert key not in unquote(said)


def test_a_blank_of_a_key_is_known_as_the_plus_that_a_url_has_for_it() -> None:
    redactor = Redactor(["two words"])
    assert redactor.body(b'{"next": "/x?key=two+words"}') == b'{"next": "/x?key=***"}'
    assert redactor.text("/x?key=two+words") == "/x?key=***"


@given(KEYS, HOSTILE, st.integers(0, 1200), HOSTILE)
def test_a_message_that_leaves_holds_no_half_of_a_key(
    key: str, before: str, blanks: int, after: str
) -> None:
    told = Redactor([key]).told(before + " x" * blanks + key + after)
    assert not obeyed(told)
    assert len(told) <= 1000
    assert key not in told
    assert not told.endswith(f"x{key[:4]}")
