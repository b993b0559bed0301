-- log: what happened. Owned by the migrating role; the gateway reads it and calls its functions, nothing else.
-- view: what is derived or coordinated (leases, subject keys, projection tables). The gateway's own.
create schema log;
create schema view;
