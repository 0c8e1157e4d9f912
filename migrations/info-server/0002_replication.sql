-- Where files are to stand, beside where they do.

alter table servers add column weight integer not null default 1 check (weight >= 0);
alter table servers add column draining integer not null default 0 check (draining in (0, 1));

-- The policy as it was resolved when the file was announced; none for files from before there were policies.
alter table files add column policy text;
-- Whether wanted and there are known to agree: the planner looks at the others.
alter table files add column settled integer not null default 0 check (settled in (0, 1));
create index files_unsettled on files (id) where state = 'available' and settled = 0;

-- Further zones that a file was asked to stand in after it was published.
create table preheats (
    file_id blob not null references files (id) on delete cascade,
    zone text not null,
    replicas integer not null check (replicas > 0),
    primary key (file_id, zone)
) strict, without rowid;

-- What each server was told to hold. A row that is no longer wanted stays, so that a server that was away
-- is told to drop what it holds and not that nobody knows the file.
create table assignments (
    file_id blob not null references files (id) on delete cascade,
    server_id text not null references servers (id),
    wanted integer not null check (wanted in (0, 1)),
    -- Whether the server's newest report names the file's own root.
    complete integer not null default 0 check (complete in (0, 1)),
    since integer not null,
    primary key (file_id, server_id)
) strict, without rowid;
create index assignments_by_server on assignments (server_id, file_id) where wanted = 1;
create index assignments_in_flight on assignments (server_id) where wanted = 1 and complete = 0;

insert into assignments (file_id, server_id, wanted, complete, since)
    select replicas.file_id, server_id, 1, replicas.root is files.root and files.root is not null, created_at
    from replicas join files on files.id = file_id where state <> 'deleting';
