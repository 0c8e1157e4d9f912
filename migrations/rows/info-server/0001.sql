insert into catalogue (one, epoch) values (1, x'0d4f0f5e6a354c9e9f0e2d5b2f3b8f11');
insert into users (id, email, password_hash, role, disabled, created_at) values
    (1, 'admin@example.org', '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA', 'admin', 0, 1764000000000),
    (2, 'gone@example.org', '$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA', 'reader', 1, 1764000000000);
insert into sessions (token_hash, user_id, created_at, expires_at) values
    (x'aa00000000000000000000000000000000000000000000000000000000000001', 1, 1764000000000, 4102444800000);
insert into servers (id, zone, url, secret_sha256, instance, present, reachable, free_bytes, last_seen) values
    ('fs-a1', 'eu', 'http://10.0.0.7:9000/', x'bb00000000000000000000000000000000000000000000000000000000000001',
     x'9f0c1c5e33334c9e9f0e2d5b2f3b8f14', 1, 1, 1099511627776, 1764000000000),
    ('fs-b2', 'us', 'http://10.0.0.8:9000/', x'bb00000000000000000000000000000000000000000000000000000000000002',
     x'9f0c1c5e33334c9e9f0e2d5b2f3b8f15', 0, 1, 1099511627776, 1764000000000);
insert into files (id, name, size, chunk_size, media_type, state, quorum, owner, created_at, sha256, root, digests) values
    (x'01890a5dac96774bbcceb302099a8057', 'Image-one.iso', 1, 1048576, 'application/octet-stream', 'available', 2, 1, 1764000000001,
     x'cc00000000000000000000000000000000000000000000000000000000000001',
     x'dd00000000000000000000000000000000000000000000000000000000000001',
     x'cc00000000000000000000000000000000000000000000000000000000000001'),
    (x'01890a5dac96774bbcceb302099a8058', 'still-coming.tar', 10, 1048576, null, 'uploading', 1, 1, 1764000000002, null, null, null),
    (x'01890a5dac96774bbcceb302099a8059', 'going-away.img', 10, 1048576, null, 'deleting', 1, 1, 1764000000003, null, null, null);
insert into replicas (file_id, server_id, counter, runs, root) values
    (x'01890a5dac96774bbcceb302099a8057', 'fs-a1', 7, '[[0,1]]',
     x'dd00000000000000000000000000000000000000000000000000000000000001'),
    (x'01890a5dac96774bbcceb302099a8057', 'fs-b2', 8, '[]', null);
insert into tokens (token_hash, token_id, file_id, user_id, expires_at, revoked, claims) values
    (x'ee00000000000000000000000000000000000000000000000000000000000001', x'5f0c1c5e11114c9e9f0e2d5b2f3b8f12',
     x'01890a5dac96774bbcceb302099a8057', 1, 4102444800000, 0,
     '{"token_hash":"ee00000000000000000000000000000000000000000000000000000000000001","token_id":"5f0c1c5e-1111-4c9e-9f0e-2d5b2f3b8f12","file":"01890a5d-ac96-774b-bcce-b302099a8057","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}');
insert into outbox (seq, stream, prev, at, fact, sent) values
    (1, 'all', 0, 1764000000003, '{"type":"file.deleted","file":"01890a5d-ac96-774b-bcce-b302099a8059"}', 0),
    (2, 'zone.eu', 0, 1764000000004, '{"type":"token.revoked","tokens":[]}', 1);
insert into streams (stream, seq) values ('all', 1), ('zone.eu', 2);
