#!/bin/sh
# Run once by Postgres' image, when the database is made: the role that the gateway works as. It owns nothing; the log
# belongs to session_gateway_owner, which the service migrate makes as POSTGRES_USER (DB_ADMIN_URL).
set -eu
psql --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" \
  --set=password="$GATEWAY_ROLE_PASSWORD" <<'SQL'
create role session_gateway login password :'password';
SQL
