#!/bin/sh
# Like the entry point of PostgreSQL's own image: makes the cluster of $POSTGRES_USER once, and gives up root.
set -eu
as() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
chown postgres:postgres "$PGDATA" /var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    secret=$(mktemp)
    printf %s "$POSTGRES_PASSWORD" > "$secret"
    chown postgres "$secret"
    as initdb --encoding=UTF8 --locale=C.UTF-8 --username="$POSTGRES_USER" --pwfile="$secret" --auth-host=scram-sha-256 --auth-local=trust
    rm "$secret"
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
fi
exec setpriv --reuid=postgres --regid=postgres --clear-groups postgres -c listen_addresses='*'
