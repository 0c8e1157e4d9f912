-- One account may ask by several processes, each by the id that it chose; an empty id is the account itself.
create table job_askers_anew (
    job_id blob not null references jobs (id) on delete cascade,
    user_id integer not null references users (id),
    asker blob not null check (length(asker) in (0, 16)),
    present integer not null check (present in (0, 1)),
    -- Whether they took their wish back; remembered for when they ask again.
    has_left integer not null check (has_left in (0, 1)),
    primary key (job_id, user_id, asker)
) strict, without rowid;
insert into job_askers_anew (job_id, user_id, asker, present, has_left)
select job_id, user_id, x'', present, has_left from job_askers;
drop table job_askers;
alter table job_askers_anew rename to job_askers;
create index job_askers_by_user on job_askers (user_id);
