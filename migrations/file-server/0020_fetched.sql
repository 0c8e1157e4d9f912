-- Files of which spans were fetched from a URL here, and for which job: when the catalogue does not know one any more, nobody
-- will ever ask for it.
create table fetched (
    file blob primary key references file (id) on delete cascade,
    job blob not null check (length(job) = 16)
) strict, without rowid;
