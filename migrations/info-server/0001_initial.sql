-- Times are milliseconds since 1970 UTC, ids and digests raw bytes, lists JSON.

-- One row: which life of the catalogue this is.
create table catalogue (
    one integer primary key check (one = 1),
    epoch blob not null check (length(epoch) = 16)
) strict;

create table users (
    id integer primary key,
    email text not null unique collate nocase,
    password_hash text not null,
    role text not null check (role in ('admin', 'publisher', 'reader')),
    disabled integer not null default 0 check (disabled in (0, 1)),
    created_at integer not null
) strict;

create table sessions (
    token_hash blob primary key check (length(token_hash) = 32),
    user_id integer not null references users (id) on delete cascade,
    created_at integer not null,
    expires_at integer not null
) strict, without rowid;
create index sessions_by_expiry on sessions (expires_at);
create index sessions_by_user on sessions (user_id);

create table servers (
    id text primary key,
    zone text not null,
    url text not null,
    secret_sha256 blob not null check (length(secret_sha256) = 32),
    instance blob not null check (length(instance) = 16),
    -- A server that said goodbye is not given a lease after a restart of the info-server.
    present integer not null check (present in (0, 1)),
    -- Whether somebody with this identity answered at the address: until then nobody is sent there.
    reachable integer not null check (reachable in (0, 1)),
    free_bytes integer not null,
    last_seen integer not null
) strict, without rowid;

create table files (
    id blob primary key check (length(id) = 16),
    name text not null,
    size integer not null check (size >= 0),
    chunk_size integer not null check (chunk_size > 0),
    media_type text,
    state text not null check (state in ('uploading', 'available', 'deleting')),
    quorum integer not null check (quorum > 0),
    owner integer not null references users (id),
    created_at integer not null,
    -- The three are set together, when the quorum holds the file.
    sha256 blob check (length(sha256) = 32),
    root blob check (length(root) = 32),
    digests blob check (length(digests) % 32 = 0),
    check ((state = 'uploading') = (root is null) or state = 'deleting'),
    check ((sha256 is null) = (root is null) and (digests is null) = (root is null))
) strict, without rowid;

create index files_unfinished on files (created_at) where state = 'uploading';
create index files_deleted on files (id) where state = 'deleting';

-- What each server last said about each file: its full state.
create table replicas (
    file_id blob not null references files (id) on delete cascade,
    server_id text not null references servers (id),
    counter integer not null,
    runs text not null,
    root blob check (length(root) = 32),
    primary key (file_id, server_id)
) strict, without rowid;

create table tokens (
    token_hash blob primary key check (length(token_hash) = 32),
    token_id blob not null unique check (length(token_id) = 16),
    file_id blob not null,
    user_id integer not null,
    expires_at integer not null,
    revoked integer not null default 0 check (revoked in (0, 1)),
    -- The grant as file servers see it.
    claims text not null
) strict, without rowid;
create index tokens_by_expiry on tokens (expires_at);
create index tokens_by_user on tokens (user_id);

-- Facts, committed together with what they are about. `sent`: 0 waits for the bus, 1 confirmed, 2 nobody was listening.
create table outbox (
    seq integer primary key autoincrement,
    stream text not null,
    prev integer not null,
    at integer not null,
    fact text not null,
    sent integer not null default 0 check (sent in (0, 1, 2))
) strict;
create index outbox_by_stream on outbox (stream, seq);
create index outbox_waiting on outbox (seq) where sent = 0;

-- The newest fact of each stream; outlives the facts themselves.
create table streams (
    stream text primary key,
    seq integer not null,
    -- Facts up to this one are forgotten: a reader that has not seen it needs a snapshot.
    trimmed_to integer not null default 0
) strict, without rowid;
