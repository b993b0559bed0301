-- log.announce_read takes a purpose too: with one more parameter it is another function (217_announce_read.sql), and
-- beside the former one a call that gives none would be ambiguous.
drop function if exists log.announce_read(bigint, bigint, text, text[]);
