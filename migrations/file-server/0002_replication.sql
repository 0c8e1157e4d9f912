-- Where the re-reading of everything held stands. Times are the info-server's, in milliseconds since 1970.
create table scrub (
    one integer primary key check (one = 1),
    -- When the last round that came to its end began.
    done_at integer,
    -- When the running round began; null between rounds.
    begun_at integer,
    -- The last file that the running round is done with.
    file blob check (length(file) = 16)
) strict;
insert into scrub (one) values (1);

-- Files whose bytes here were lost or spoiled: fetched again, whoever had put them here.
create table repair (
    file blob primary key check (length(file) = 16)
) strict, without rowid;
