-- Chunks of a published file that no file server holds any more, [[a,b],…]; null while there are none.
alter table files add column lost_chunks text;
create index files_with_lost_chunks on files (id) where lost_chunks is not null;
