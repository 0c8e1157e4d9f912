-- Files that servers hold and the catalogue does not know, by their own word: kept there and not served until an operator decides.
create table unknown_files (
    server_id text not null references servers (id),
    file_id blob not null check (length(file_id) = 16),
    since integer not null,
    primary key (server_id, file_id)
) strict, without rowid;
create index unknown_files_by_file on unknown_files (file_id);
