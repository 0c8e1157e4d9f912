-- Files that the info-server is still to be asked about.
create table question (
    file blob primary key references file (id) on delete cascade
) strict, without rowid;

-- Files that the catalogue does not know: kept and not served.
create table unknown (
    file blob primary key references file (id) on delete cascade
) strict, without rowid;
