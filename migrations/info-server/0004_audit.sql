-- Who did what: written in the transaction of the deed, never changed, forgotten by age and number alone.
create table audit (
    id integer primary key autoincrement,
    at integer not null,
    kind text not null,
    -- Whose deed it is; null: the terminal, a file server, or nobody who is known.
    user_id integer,
    -- The name of the account, file, token, session or server that it is about.
    subject text,
    address text,
    -- How many such deeds the row stands for.
    count integer not null default 1 check (count > 0),
    detail text
) strict;
create index audit_by_kind on audit (kind, id);
create index audit_by_time on audit (at);

create trigger audit_is_never_changed before update on audit
begin
    select raise(abort, 'the audit log is append-only');
end;
