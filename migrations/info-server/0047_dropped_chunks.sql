-- Chunks that a server reported once and holds no longer, [[a,b],…]; null while there are none.
alter table replicas add column dropped text;
