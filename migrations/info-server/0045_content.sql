-- Before a file is published, its publisher asks for published files of the same size.
create index files_by_size on files (size) where state = 'available' and job_id is null;

-- A file that is renamed is found by its new name.
create trigger renamed_files_are_indexed_anew after update of name on names
begin
    insert into name_parts (name_parts, rowid, name) values ('delete', old.n, old.name);
    insert into name_parts (rowid, name) values (new.n, new.name);
end;
