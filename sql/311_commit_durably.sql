-- An append moves the tip: what was acknowledged, and an auditor's announcement, outlives a crash of the server. So does
-- the epoch of a lease, which must never be given twice, and the making and destroying of a subject's key.
drop trigger if exists commit_durably on log.tip;
create trigger commit_durably after insert on log.tip
  for each statement execute function log.commit_durably();
drop trigger if exists commit_durably on view.lease;
create trigger commit_durably after insert or update on view.lease
  for each statement execute function log.commit_durably();
drop trigger if exists commit_durably on view.subject_key;
create trigger commit_durably after insert or delete on view.subject_key
  for each statement execute function log.commit_durably();
