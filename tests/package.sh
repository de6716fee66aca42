#!/usr/bin/env bash
# The package as users get it: source and wheel are built and checked; then, from the wheel alone, in
# an empty folder and an empty home, it is run by uvx on each Python that is here and by pipx, and
# goes through the first minutes: doctor, the README's example without a key, the demo. Last, what the
# workflows run is run with what they install, the wheel in the checkout's place.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(cd "${1:?the folder of uv, twine and pipx}" && pwd)
testing=$(cd "${2:?the folder of pytest}" && pwd)
here=$PWD
work=$(mktemp --directory)
served=
finish() {
    [ -z "$served" ] || kill "$served" 2> /dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# The wheel is built of the source, so that holds all of it.
"$tools/uv" build --quiet --no-config --out-dir "$work/dist"
"$tools/twine" check --strict "$work"/dist/*.whl "$work"/dist/*.tar.gz
wheel=$(echo "$work"/dist/*.whl)
"$tools/python" - "$wheel" <<'PYTHON'
import sys
import zipfile

names = zipfile.ZipFile(sys.argv[1]).namelist()
assert any(name.startswith("backfill/migrations/") for name in names), "no migrations in the wheel"
assert "backfill/py.typed" in names, "no py.typed in the wheel"
for name in ("look.css", "templates/report.html"):
    assert f"backfill/report/{name}" in names, f"no {name} in the wheel"
for name in ("static/chart.js", "templates/symbol.html", "static/lightweight-charts/NOTICE"):
    assert f"backfill/serve/{name}" in names, f"no {name} in the wheel"
assert any(name.endswith("share/man/man1/backfill.1") for name in names), "no man page in the wheel"
strays = [name for name in names if not name.startswith(("backfill/", "ohlc_backfill-"))]
assert not strays, strays
PYTHON
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' backfill/__init__.py)

pythons=()
for minor in 3.11 3.12 3.13 3.14; do
    for found in "python$minor" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$minor".*/bin/python; do
        if told=$("$found" -c 'import sys; print(sys.executable, sys.version_info[:2])' 2> /dev/null) &&
            [[ $told == *"(${minor/./, })" ]]; then
            pythons+=("${told% (*}")
            break
        fi
    done
done

# Nothing of the checkout or of whoever runs this is in the way from here on.
unset PYTHONPATH DATABASE_URL CI GITHUB_ACTIONS VIRTUAL_ENV
for name in $(compgen -e | grep -E '^(BACKFILL_|MASSIVE_|POLYGON_|BINANCE_)' || true); do unset "$name"; done
export HOME=$work/home XDG_DATA_HOME=$work/home/data UV_CACHE_DIR=$work/cache UV_PYTHON_DOWNLOADS=never
export PIP_DISABLE_PIP_VERSION_CHECK=1
mkdir -p "$HOME" "$work/empty"
cd "$work/empty"

run() { # the Python; words of backfill
    "$tools/uvx" --no-config --python "$1" --constraints "$here/constraints.txt" \
        --from "ohlc-backfill[embedded] @ file://$wheel" backfill "${@:2}"
}

for python in "${pythons[@]}"; do
    told=$(run "$python" --version)
    [ "$told" = "backfill $version" ] || { echo "package: $python says $told" >&2; exit 1; }
    echo "uvx on $("$python" --version): $told"
done
python=${pythons[-1]}

told=$(PIPX_HOME=$work/pipx "$tools/pipx" run --quiet --python "$python" \
    --pip-args="--quiet --constraint $here/constraints.txt" --spec "$wheel" backfill --version)
[ "$told" = "backfill $version" ] || { echo "package: pipx says $told" >&2; exit 1; }
echo "pipx: $told"

run "$python" simulate --provider binance --quota unlimited > "$work/served" 2>&1 &
served=$!
for _ in $(seq 1200); do
    grep --quiet "Ctrl-C ends it" "$work/served" && break
    sleep 0.1
done
# shellcheck disable=SC1090 # what it prints is what to type
source <(grep '^ *export ' "$work/served")
: "${BACKFILL_PROVIDER_URL:?the simulated provider does not start}"
run "$python" doctor
run "$python" run BTC/USDT --provider binance --from 30d
run "$python" bars BTC/USDT
unset BACKFILL_PROVIDER BACKFILL_PROVIDER_URL BACKFILL_PLAN BACKFILL_QUOTA BINANCE_ARCHIVE_URL
run "$python" demo

"$tools/uv" venv --quiet --no-config --python "$python" "$work/installed"
install() { # what to install, and how
    "$tools/uv" pip install --quiet --no-config --python "$work/installed/bin/python" "$@"
}
install --require-hashes --requirement "$here/requirements.txt"
install --no-deps "$wheel"
told=$("$work/installed/bin/python" -m backfill --version)
[ "$told" = "backfill $version" ] || { echo "package: python -m backfill says $told" >&2; exit 1; }
[ -f "$work/installed/share/man/man1/backfill.1" ] || { echo "package: no man page" >&2; exit 1; }
cd "$here"
BACKFILL_TEST_BIN=$work/installed/bin "$testing/python" -m pytest --quiet \
    tests/integration/test_run_workflows.py
echo "the package works from its file alone"
