-- What one file server knows. Blobs lie beside this database; it says which of their bytes are verified.

-- One row: what there is once.
create table state (
    one integer primary key check (one = 1),
    epoch blob check (length(epoch) = 16),
    -- The latest time heard from the info-server, in milliseconds since 1970.
    high_water integer,
    report_counter integer not null default 0
) strict;
insert into state (one) values (1);

create table file (
    id blob primary key check (length(id) = 16),
    size integer not null,
    chunk_size integer not null,
    -- Set in the transaction that adds the last chunk.
    root blob check (length(root) = 32),
    -- Set once the whole file has been read back from disk.
    sha256 blob check (length(sha256) = 32)
) strict, without rowid;

-- A row says: these bytes matched this digest and were synced before the row was written.
create table chunk (
    file blob not null references file (id) on delete cascade,
    n integer not null,
    digest blob not null check (length(digest) = 32),
    primary key (file, n)
) strict, without rowid;

-- Changes that the info-server has not acknowledged yet.
create table report (
    file blob primary key check (length(file) = 16),
    counter integer not null
) strict, without rowid;

-- Grants, and tombstones (no body) of revoked ones. The highest seq wins.
create table token (
    hash blob primary key check (length(hash) = 32),
    seq integer not null,
    expires_at integer not null,
    body text
) strict, without rowid;
create index token_expiry on token (expires_at);

create table cursor (
    stream text primary key,
    seq integer not null
) strict, without rowid;

-- What the info-server decided about files on this server. The highest seq wins.
create table assignment (
    file blob primary key check (length(file) = 16),
    seq integer not null,
    state text not null check (state in ('assigned', 'removed', 'deleted'))
) strict, without rowid;
