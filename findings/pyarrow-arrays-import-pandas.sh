#!/usr/bin/env bash
# pyarrow 26.0.1 beside pandas 3.1.1: a column that pyarrow's CSV reader made is asked for as a NumPy
# array, which needs no more than its memory, so a guess is that pandas has no part in it. Where pandas
# is installed, `to_numpy` of an array or a chunked array imports it all, as `numpy.asarray` does, to see
# whether its own types are to be made: half a second of a process that uses pandas for nothing.
# `numpy.from_dlpack` of a chunk takes the same memory without it.
#
# Output seen:
#   read_csv: False
#   numpy.from_dlpack: [1. 3.], pandas imported: False
#   Array.to_numpy: pandas imported: True
#   ChunkedArray.to_numpy: pandas imported: True
#   numpy.asarray: pandas imported: True
#
# What follows here: the files of Binance's archive are read as one block, and its columns taken by
# `numpy.from_dlpack` (backfill/providers/binance_csv.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    pyarrow==26.0.1 pandas==3.1.1 numpy==2.4.6
cat > "$folder/try.py" <<'PYTHON'
import subprocess, sys

import numpy as np
import pyarrow
from pyarrow import csv

WAYS = {
    "Array.to_numpy": lambda column: column.chunk(0).to_numpy(),
    "ChunkedArray.to_numpy": lambda column: column.to_numpy(),
    "numpy.asarray": lambda column: np.asarray(column.chunk(0)),
}


def column():
    types = {"open": pyarrow.float64(), "close": pyarrow.float64()}
    return csv.read_csv(
        pyarrow.BufferReader(b"1,2\n3,4\n"),
        csv.ReadOptions(column_names=list(types)),
        convert_options=csv.ConvertOptions(column_types=types),
    ).column("open")


def imported():
    return "pandas" in sys.modules


if len(sys.argv) > 1:
    WAYS[sys.argv[1]](column())
    print(imported())
    sys.exit()
found = column()
print(f"read_csv: {imported()}")
print(f"numpy.from_dlpack: {np.from_dlpack(found.chunk(0))}, pandas imported: {imported()}")
for way in WAYS:
    told = subprocess.run([sys.executable, __file__, way], capture_output=True, text=True, check=True)
    print(f"{way}: pandas imported: {told.stdout.strip()}")
PYTHON
"$folder/venv/bin/python" "$folder/try.py" | tee "$folder/out"
sed -n '/^# Output seen:/,/^#$/s/^#   //p' "$0" | diff - "$folder/out"
