-- Which fact deleted a file. Its row is kept, without its digests, until every server has taken that fact in.

alter table files add column deleted_seq integer;
update files set deleted_seq = (select coalesce(max(seq), 0) from streams), sha256 = null, root = null, digests = null
    where state = 'deleting';
drop index files_deleted;
create index files_deleted on files (deleted_seq) where state = 'deleting';
