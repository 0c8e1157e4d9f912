-- SHA-256 of the content as a holder read it back from its own disk: what the publisher said is compared with it.
alter table replicas add column sha256 blob check (length(sha256) = 32);
