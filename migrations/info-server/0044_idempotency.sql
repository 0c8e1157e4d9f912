-- What requests with an Idempotency-Key made. A key is kept as the SHA-256 of itself and of its account; the answer to a repetition is
-- made from the subject, so that no token is stored.
create table idempotency_keys (
    key_hash blob primary key check (length(key_hash) = 32),
    request_hash blob not null check (length(request_hash) = 32),
    subject text not null,
    status integer not null,
    body text not null,
    created_at integer not null
) strict, without rowid;

create index idempotency_keys_by_age on idempotency_keys (created_at);

-- Written and emptied while the database takes no writes, to see when it takes them again.
create table storage_trial (
    one integer primary key check (one = 1),
    filler blob not null
) strict;
