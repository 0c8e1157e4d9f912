update scrub set done_at = 1764000000000;
insert into repair (file) values (x'01890a5dac96774bbcceb302099a8058');
