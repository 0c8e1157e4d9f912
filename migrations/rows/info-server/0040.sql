insert into files (id, name, size, chunk_size, state, quorum, owner, created_at) values
    (x'01890a5dac96774bbcceb302099a805a', 'another.tar', 10, 1048576, 'uploading', 1, 1, 1764000000007);
