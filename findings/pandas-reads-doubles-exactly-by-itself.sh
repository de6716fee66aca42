#!/usr/bin/env bash
# pandas 3.1.1: read_csv reads every double as it was written, without float_precision. Versions
# before 3 did so only with float_precision="round_trip"; that argument is deprecated now, and said
# to be (Pandas4Warning). Exits 1 if that changes.
#
# Seen: "default: 0 of 20000 differ", "round_trip warns: True".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pandas==3.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import io
import random
import warnings

import pandas

random.seed(1)
doubles = [random.uniform(0, 1000) for _ in range(20_000)]
text = "close\n" + "\n".join(map(repr, doubles))
read = pandas.read_csv(io.StringIO(text))["close"].tolist()
differ = sum(one != other for one, other in zip(read, doubles, strict=True))
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    pandas.read_csv(io.StringIO(text), float_precision="round_trip")
warns = any("float_precision" in str(one.message) for one in seen)
print(f"default: {differ} of {len(doubles)} differ", f"round_trip warns: {warns}", sep="\n")
raise SystemExit(0 if differ == 0 and warns else 1)
PYTHON
