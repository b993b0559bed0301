-- Alerts of tables that are not what the log says: from before one is told until it is told that it is over, so that
-- whoever proves next goes on where a gateway died. Changed under the lease "prove".
-- told: alert.raised is in the log, under alert_id. cleared_id: alert.cleared is to be told, and then the row goes.
-- instance, since: who raised it and when, by its clock. cause: the event that told of the comparison, if it is known.
create table view.projection_alert (
  name        text         not null,
  alert_id    uuid         not null,
  instance    text         not null,
  since       timestamptz  not null,
  detail      text         not null,
  cause       uuid,
  told        boolean      not null default false,
  cleared_id  uuid,
  constraint projection_alert_pk primary key (name)
);
