-- Chunks of jobs about whose digest workers disagree: who says what, until it is decided.
create table job_disputes (
    job_id blob not null references jobs (id) on delete cascade,
    n integer not null,
    claims text not null,
    primary key (job_id, n)
) strict, without rowid;
