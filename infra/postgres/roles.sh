#!/bin/sh
# Lets the roles of the services log in. Run by the postgres image once, after init.sql, on an empty data directory.
set -eu
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=pass="$DB_PASS" \
     --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
ALTER ROLE notify_api LOGIN PASSWORD :'pass';
ALTER ROLE notify_relay LOGIN PASSWORD :'pass';
ALTER ROLE notify_delivery LOGIN PASSWORD :'pass';
ALTER ROLE notify_dlq LOGIN PASSWORD :'pass';
SQL
