-- Collaborative downloads: an origin URL whose chunks file servers fetch together.

-- A file that a job makes: its askers alone see it.
alter table files add column job_id blob check (length(job_id) = 16);
create index files_of_jobs on files (job_id) where job_id is not null;

create table jobs (
    id blob primary key check (length(id) = 16),
    state text not null,
    -- What was asked and what was found, as the server reads it back.
    about text not null
) strict, without rowid;

-- Who asked, and whether they still want it.
create table job_askers (
    job_id blob not null references jobs (id) on delete cascade,
    user_id integer not null references users (id),
    present integer not null check (present in (0, 1)),
    -- Whether they took their wish back; remembered for when they ask again.
    has_left integer not null check (has_left in (0, 1)),
    primary key (job_id, user_id)
) strict, without rowid;
create index job_askers_by_user on job_askers (user_id);

create table job_workers (
    job_id blob not null references jobs (id) on delete cascade,
    server_id text not null references servers (id),
    excluded integer not null check (excluded in (0, 1)),
    failures integer not null,
    bytes integer not null,
    primary key (job_id, server_id)
) strict, without rowid;

-- Chunks whose digest is known: who told of it first, who holds it, and whether another one found the same.
create table job_chunks (
    job_id blob not null references jobs (id) on delete cascade,
    n integer not null,
    sha256 blob not null check (length(sha256) = 32),
    first_id text,
    holder_id text,
    confirmed integer not null check (confirmed in (0, 1)),
    primary key (job_id, n)
) strict, without rowid;

create table job_leases (
    job_id blob not null references jobs (id) on delete cascade,
    fence integer not null,
    server_id text not null,
    about text not null,
    primary key (job_id, fence)
) strict, without rowid;
