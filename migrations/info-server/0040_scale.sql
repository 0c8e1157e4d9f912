-- What keeps questions fast when there are a million files.

-- Names as they are searched, in the order of announcement, beside an index of their parts of three characters.
create table names (
    n integer primary key,
    file_id blob not null unique references files (id) on delete cascade,
    name text not null
) strict;
create virtual table name_parts using fts5 (name, content = 'names', content_rowid = 'n', tokenize = 'trigram');
insert into names (file_id, name) select id, name from files where state <> 'deleting' order by id;
insert into name_parts (name_parts) values ('rebuild');

create trigger names_are_indexed after insert on names
begin
    insert into name_parts (rowid, name) values (new.n, new.name);
end;
create trigger names_leave_the_index after delete on names
begin
    insert into name_parts (name_parts, rowid, name) values ('delete', old.n, old.name);
end;
create trigger files_bring_their_names after insert on files when new.state <> 'deleting'
begin
    insert into names (file_id, name) values (new.id, new.name);
end;
create trigger removed_files_lose_their_names after update of state on files when new.state = 'deleting'
begin
    delete from names where file_id = new.id;
end;

-- How many rows of a kind there are: counting a million takes longer than who asks for metrics waits.
create table tallies (
    kind text primary key,
    count integer not null
) strict, without rowid;
insert into tallies (kind, count)
    select value, (select count(*) from files where state = value) from json_each('["uploading","available","deleting"]');
insert into tallies (kind, count) select 'complete', count(root) from replicas;
insert into tallies (kind, count) select 'partial', count(*) - count(root) from replicas;

create trigger files_are_counted after insert on files
begin
    update tallies set count = count + 1 where kind = new.state;
end;
create trigger files_are_counted_out after delete on files
begin
    update tallies set count = count - 1 where kind = old.state;
end;
create trigger files_are_counted_anew after update of state on files when old.state <> new.state
begin
    update tallies set count = count + iif(kind = new.state, 1, -1) where kind in (old.state, new.state);
end;
create trigger replicas_are_counted after insert on replicas
begin
    update tallies set count = count + 1 where kind = iif(new.root is null, 'partial', 'complete');
end;
create trigger replicas_are_counted_out after delete on replicas
begin
    update tallies set count = count - 1 where kind = iif(old.root is null, 'partial', 'complete');
end;
create trigger replicas_are_counted_anew after update of root on replicas when (old.root is null) <> (new.root is null)
begin
    update tallies set count = count + iif((kind = 'partial') = (new.root is null), 1, -1)
        where kind in ('partial', 'complete');
end;
