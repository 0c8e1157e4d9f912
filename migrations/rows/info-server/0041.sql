insert into unknown_files (server_id, file_id, since) values ('fs-a1', x'01890a5dac96774bbcceb302099a805b', 1764000000008);
