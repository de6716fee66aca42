#!/usr/bin/env bash
# databento-dbn 0.72.0: its decoder reads zstd by itself, and says nothing of a file that ends in the
# middle of a frame: a download that was cut off looks like a shorter one. A guess is that it raises,
# as gzip does. zstandard 0.25 says it no louder, but its decompressobj tells by `eof`.
#
# Output seen:
#   whole: 2000 bars, nothing left in the decoder's buffer
#   cut after 60 %: fewer bars, no error, nothing left in the decoder's buffer
#   cut after 60 %: zstandard raises nothing either, and its eof is False
#
# What follows here: backfill/files/dbn.py unpacks by zstandard, refuses a file whose last frame has no
# end, and gives the decoder plain bytes, of which an unfinished record stays in its buffer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    databento-dbn==0.72.0 zstandard==0.25.0
"$folder/venv/bin/python" - <<'PYTHON'
from datetime import date
from types import SimpleNamespace

import databento_dbn as dbn
import zstandard

days = SimpleNamespace(start_date=date(2023, 3, 28), end_date=date(2023, 3, 29), symbol="1")
told = dbn.Metadata(
    dataset="EQUS.MINI", schema=dbn.Schema.OHLCV_1M, start=0,
    stype_in=dbn.SType.RAW_SYMBOL, stype_out=dbn.SType.INSTRUMENT_ID, symbols=["QQQ"],
    partial=[], not_found=[], mappings=[SimpleNamespace(raw_symbol="QQQ", intervals=[days])],
)
bars = [
    dbn.OHLCVMsg(
        rtype=33, publisher_id=95, instrument_id=1, ts_event=minute * 60 * 10**9,
        open=minute * 7919 % 10**9, high=10**9, low=1, close=10**9, volume=minute * 104729 % 9973,
    )
    for minute in range(2000)
]
whole = zstandard.ZstdCompressor().compress(told.encode() + b"".join(map(bytes, bars)))
cut = whole[: len(whole) * 6 // 10]


def read(packed: bytes) -> tuple[int, bytes]:
    decoder = dbn.DBNDecoder(compression=dbn.Compression.ZSTD)
    decoder.write(packed)
    return max(len(decoder.decode()) - 1, 0), decoder.buffer()


assert read(whole) == (2000, b"")
print("whole: 2000 bars, nothing left in the decoder's buffer")
count, left = read(cut)
assert count < 2000 and left == b""
print("cut after 60 %: fewer bars, no error, nothing left in the decoder's buffer")
unpacking = zstandard.ZstdDecompressor().decompressobj()
unpacking.decompress(cut)
assert not unpacking.eof
print("cut after 60 %: zstandard raises nothing either, and its eof is False")
PYTHON
