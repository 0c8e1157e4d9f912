-- Sessions get a public name, by which their owner sees and closes them, and where they were opened.
alter table sessions add column id blob check (length(id) = 16);
alter table sessions add column address text;
alter table sessions add column zone text;
update sessions set id = randomblob(16);
create unique index sessions_by_id on sessions (id);
