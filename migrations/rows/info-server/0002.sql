update servers set draining = 1, weight = 3 where id = 'fs-b2';
update files set policy = '{"replicas":3,"zones":["eu"]}' where name = 'Image-one.iso';
insert into preheats (file_id, zone, replicas) values (x'01890a5dac96774bbcceb302099a8057', 'ap', 2);
insert or ignore into assignments (file_id, server_id, wanted, complete, since) values
    (x'01890a5dac96774bbcceb302099a8057', 'fs-a1', 1, 1, 1764000000005);
