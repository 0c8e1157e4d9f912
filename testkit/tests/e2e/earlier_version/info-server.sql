pragma foreign_keys = off;
begin;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
CREATE TABLE catalogue (
    one integer primary key check (one = 1),
    epoch blob not null check (length(epoch) = 16)
) strict;
CREATE TABLE users (
    id integer primary key,
    email text not null unique collate nocase,
    password_hash text not null,
    role text not null check (role in ('admin', 'publisher', 'reader')),
    disabled integer not null default 0 check (disabled in (0, 1)),
    created_at integer not null
) strict;
CREATE TABLE sessions (
    token_hash blob primary key check (length(token_hash) = 32),
    user_id integer not null references users (id) on delete cascade,
    created_at integer not null,
    expires_at integer not null
, id blob check (length(id) = 16), address text, zone text) strict, without rowid;
CREATE TABLE servers (
    id text primary key,
    zone text not null,
    url text not null,
    secret_sha256 blob not null check (length(secret_sha256) = 32),
    instance blob not null check (length(instance) = 16),
    -- A server that said goodbye is not given a lease after a restart of the info-server.
    present integer not null check (present in (0, 1)),
    -- Whether somebody with this identity answered at the address: until then nobody is sent there.
    reachable integer not null check (reachable in (0, 1)),
    free_bytes integer not null,
    last_seen integer not null
, weight integer not null default 1 check (weight >= 0), draining integer not null default 0 check (draining in (0, 1))) strict, without rowid;
CREATE TABLE files (
    id blob primary key check (length(id) = 16),
    name text not null,
    size integer not null check (size >= 0),
    chunk_size integer not null check (chunk_size > 0),
    media_type text,
    state text not null check (state in ('uploading', 'available', 'deleting')),
    quorum integer not null check (quorum > 0),
    owner integer not null references users (id),
    created_at integer not null,
    -- The three are set together, when the quorum holds the file.
    sha256 blob check (length(sha256) = 32),
    root blob check (length(root) = 32),
    digests blob check (length(digests) % 32 = 0), policy text, settled integer not null default 0 check (settled in (0, 1)), deleted_seq integer, job_id blob check (length(job_id) = 16),
    check ((state = 'uploading') = (root is null) or state = 'deleting'),
    check ((sha256 is null) = (root is null) and (digests is null) = (root is null))
) strict, without rowid;
CREATE TABLE replicas (
    file_id blob not null references files (id) on delete cascade,
    server_id text not null references servers (id),
    counter integer not null,
    runs text not null,
    root blob check (length(root) = 32), sha256 blob check (length(sha256) = 32),
    primary key (file_id, server_id)
) strict, without rowid;
CREATE TABLE tokens (
    token_hash blob primary key check (length(token_hash) = 32),
    token_id blob not null unique check (length(token_id) = 16),
    file_id blob not null,
    user_id integer not null,
    expires_at integer not null,
    revoked integer not null default 0 check (revoked in (0, 1)),
    -- The grant as file servers see it.
    claims text not null
) strict, without rowid;
CREATE TABLE outbox (
    seq integer primary key autoincrement,
    stream text not null,
    prev integer not null,
    at integer not null,
    fact text not null,
    sent integer not null default 0 check (sent in (0, 1, 2))
) strict;
CREATE TABLE streams (
    stream text primary key,
    seq integer not null,
    -- Facts up to this one are forgotten: a reader that has not seen it needs a snapshot.
    trimmed_to integer not null default 0
) strict, without rowid;
CREATE TABLE preheats (
    file_id blob not null references files (id) on delete cascade,
    zone text not null,
    replicas integer not null check (replicas > 0),
    primary key (file_id, zone)
) strict, without rowid;
CREATE TABLE assignments (
    file_id blob not null references files (id) on delete cascade,
    server_id text not null references servers (id),
    wanted integer not null check (wanted in (0, 1)),
    -- Whether the server's newest report names the file's own root.
    complete integer not null default 0 check (complete in (0, 1)),
    since integer not null,
    primary key (file_id, server_id)
) strict, without rowid;
CREATE TABLE audit (
    id integer primary key autoincrement,
    at integer not null,
    kind text not null,
    -- Whose deed it is; null: the terminal, a file server, or nobody who is known.
    user_id integer,
    -- The name of the account, file, token, session or server that it is about.
    subject text,
    address text,
    -- How many such deeds the row stands for.
    count integer not null default 1 check (count > 0),
    detail text
) strict;
CREATE TABLE jobs (
    id blob primary key check (length(id) = 16),
    state text not null,
    -- What was asked and what was found, as the server reads it back.
    about text not null
) strict, without rowid;
CREATE TABLE job_workers (
    job_id blob not null references jobs (id) on delete cascade,
    server_id text not null references servers (id),
    excluded integer not null check (excluded in (0, 1)),
    failures integer not null,
    bytes integer not null,
    primary key (job_id, server_id)
) strict, without rowid;
CREATE TABLE job_chunks (
    job_id blob not null references jobs (id) on delete cascade,
    n integer not null,
    sha256 blob not null check (length(sha256) = 32),
    first_id text,
    holder_id text,
    confirmed integer not null check (confirmed in (0, 1)),
    primary key (job_id, n)
) strict, without rowid;
CREATE TABLE job_leases (
    job_id blob not null references jobs (id) on delete cascade,
    fence integer not null,
    server_id text not null,
    about text not null,
    primary key (job_id, fence)
) strict, without rowid;
CREATE TABLE names (
    n integer primary key,
    file_id blob not null unique references files (id) on delete cascade,
    name text not null
) strict;
CREATE VIRTUAL TABLE name_parts using fts5 (name, content = 'names', content_rowid = 'n', tokenize = 'trigram');
CREATE TABLE tallies (
    kind text primary key,
    count integer not null
) strict, without rowid;
CREATE TABLE unknown_files (
    server_id text not null references servers (id),
    file_id blob not null check (length(file_id) = 16),
    since integer not null,
    primary key (server_id, file_id)
) strict, without rowid;
CREATE TABLE "job_askers" (
    job_id blob not null references jobs (id) on delete cascade,
    user_id integer not null references users (id),
    asker blob not null check (length(asker) in (0, 16)),
    present integer not null check (present in (0, 1)),
    -- Whether they took their wish back; remembered for when they ask again.
    has_left integer not null check (has_left in (0, 1)),
    primary key (job_id, user_id, asker)
) strict, without rowid;
CREATE TABLE job_disputes (
    job_id blob not null references jobs (id) on delete cascade,
    n integer not null,
    claims text not null,
    primary key (job_id, n)
) strict, without rowid;
insert into _sqlx_migrations values (1, 'initial', '2026-11-30 04:23:06', 1, X'2efe917a8f7285d59b8571bc580f75d9bd6d85802366ec9c241d457fe931ecf8fe6ea991d938f3c2eebc2afe97698e33', 8032723);
insert into _sqlx_migrations values (2, 'replication', '2026-11-30 04:23:06', 1, X'83b6316b6601c21b28e4fac596fe27eeece5e7b5ee8dbd48348db0c7a14f829143588512907e16e4ea5dc6483ccafb29', 7100508);
insert into _sqlx_migrations values (3, 'accounts', '2026-11-30 04:23:06', 1, X'cd8eb2fca25da004488eb0f7d8ae619704d78fde0bdf42c284f8a54d6ad4ea9a0c3c26f3a7e1b7af93822eed4056fc17', 3849514);
insert into _sqlx_migrations values (4, 'audit', '2026-11-30 04:23:06', 1, X'7059d47926a517474854298d569093f276000fa3bbe1593c19223eccb9e058f01efa1362f0a742864a24978c41ab4879', 2327300);
insert into _sqlx_migrations values (10, 'deletions', '2026-11-30 04:23:06', 1, X'ea2fdbf6fed2023ad55b77d3d13043dc8f3e2b9ef379e99b1e8186335cbb66a02df7ae2775c220409392589e6a3efc39', 4867728);
insert into _sqlx_migrations values (20, 'replica sha256', '2026-11-30 04:23:06', 1, X'3d6ffe47de9bb45e058d1bb2a3cf22b7f03287391b48c2d00786564d4cd2f176419cb0ec84e6b7f16778d6f56177c36d', 2938158);
insert into _sqlx_migrations values (30, 'jobs', '2026-11-30 04:23:06', 1, X'8d30356f1c0a8c439da816c7c70a8bbf4ff333cf07ebb2b170e087bc19dd6582cfaa047a33e119299b5d8e4ef4231935', 7582133);
insert into _sqlx_migrations values (40, 'scale', '2026-11-30 04:23:06', 1, X'd30f15b9b4bc005df87314956fb435da2f55e304a50ea1aace75d2f281800435bb4298838b41a45b186acbc8dc594fb9', 4513040);
insert into _sqlx_migrations values (41, 'unknown files', '2026-11-30 04:23:06', 1, X'dcbf00053a28b4f39d5bf8a37245efa924cd78467933b1133c6f1e55cce61cffd303cc64c9fb6a8b5a15510ad9bf06d8', 5401952);
insert into _sqlx_migrations values (42, 'askers', '2026-11-30 04:23:06', 1, X'fa30c611f511630dfe12b0bc2f42b435f395a08fc2d1fbf779899731e5b6c42ad42103dd13adea5c329befe6cc06465b', 14974675);
insert into _sqlx_migrations values (43, 'disputes', '2026-11-30 04:23:06', 1, X'fab9fda581a6a7efb9d28be31692d7cf3539af731c96f950a9646ad3b840d4fbf1d1490ece2833575d9045dc87bf80f2', 1475233);
insert into catalogue values (1, X'01a22ab136e571e8b620d70bbc69e874');
insert into users values (1, 'admin@example.org', '$argon2id$v=19$m=19456,t=2,p=1$1W9Alfl4uaObeKlIOkkOiQ$RO6XkWM4iA1ypfbRAeexfsPKHwV5oV6LQvi6D9KxAGg', 'admin', 0, 1796012587342);
insert into users values (2, 'publisher@example.org', '$argon2id$v=19$m=19456,t=2,p=1$zNCPvFT1qoSyhUjOQmEQiA$+37pr0ZqujS8Tt+ISaQJGy5jDujek/2xC8h0tLRFEqc', 'publisher', 0, 1796012587409);
insert into users values (3, 'closed@example.org', '$argon2id$v=19$m=19456,t=2,p=1$QOeFixjs9g5RqAv8iNiFWQ$vY8N57WtNnX0LQ53keBybKRz7xVHiWmA9oXXvTjV+40', 'reader', 1, 1796012587483);
insert into sessions values (X'260e5e6d513a6f0778e09af94db80d9d7ffa86f1a67d3ad8d67ead93d47dafe9', 1, 1796012587605, 4102444800000, X'01a22ab13a567524b27d21e4ff84dfdb', '127.0.0.1', NULL);
insert into sessions values (X'fca73e43f2775dbc66f7c150d02c6c40a0356e01a2c2cdc554ef2e03e2d08423', 2, 1796012587636, 4102444800000, X'01a22ab13a7572b5ab1424f7cae5d3e6', '127.0.0.1', NULL);
insert into servers values ('fs-0p26ebmtef0n', 'eu', 'http://127.0.0.1:40375/', X'28d76293319472715dab1f18022ce935a1e9078420d265313183f7a1dd2ea1e0', X'01a22ab137ad71259d5cc71eb2c53930', 0, 1, 68197847040, 1796012593049, 1, 0);
insert into servers values ('fs-7aoh1rcmqo63', 'eu', 'http://127.0.0.1:33325/', X'd7f98aa339f4714bb7f4452616527f64203ac7841de707b8693bf706094a7a71', X'01a22ab1387971b2ab1f976612d6b341', 0, 1, 68085719040, 1796012590235, 1, 0);
insert into files values (X'01a22ab13b547767a214fbd31e08978e', 'one.bin', 1500000, 1048576, NULL, 'available', 2, 2, 1796012587860, X'f410b621502efc2a7c4af9cc73daa61b25cf620317f19160ec6a0504a3222229', X'70e1a6b37c8455252b672957409cad9f0e6df2cbc428af085b07be49926f86d5', X'e76e4c02227083fd12207b7bc85287bb9e02a618fed3bd8eab1bc2daeda2fb53794f173161ac35dad933ef69067934683ba3fdeda58e11ef1606766f967b7c8c', '{"replicas":3}', 0, NULL, NULL);
insert into files values (X'01a22ab13be07323ba9b35e5e086023d', 'two.bin', 10, 1048576, NULL, 'available', 2, 1, 1796012588000, X'84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882', X'b1c4b79edaed1a737bff254f5325092f214b7595224b0552e0c0d04a9cbc3718', X'84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882', '{"replicas":3}', 0, NULL, NULL);
insert into files values (X'01a22ab13c2a7785b7db35f8e930665a', 'gone.bin', 4, 1048576, NULL, 'deleting', 2, 1, 1796012588074, NULL, NULL, NULL, '{"replicas":3}', 0, 11, NULL);
insert into files values (X'01a22ab13ce874f99960eee69f4f47d8', 'half.bin', 1500000, 1048576, NULL, 'uploading', 2, 2, 4102444800000, NULL, NULL, NULL, '{"replicas":3}', 0, NULL, NULL);
insert into files values (X'01a22ab13d7172a39e32f545c45e3b87', 'job.bin', 3145728, 1048576, NULL, 'available', 1, 1, 1796012588401, X'bf6c888325d5b462f0fe07dfcfc03cc84a6a87c937db0b05ee43cb1980501184', X'6b01dba0d73214f503a88e705a09bf75d6736570adf707ffd62e70fcf4356834', X'8a60d7c2c106707ca42105493881468151316dc4bad4b2796b87f33694775ed659f5ae14ac48fef5de242c94689dda0908f20791adef28a9f1855926feb2f747eed2dbe643f8b74a0c1db9cfd8d957b540b31feed66a1d517f016b3bd360b2e0', '{"replicas":3}', 0, NULL, X'01a22ab13d7172a39e32f544ff628503');
insert into replicas values (X'01a22ab13b547767a214fbd31e08978e', 'fs-0p26ebmtef0n', 1796012586995, '[[0,2]]', X'70e1a6b37c8455252b672957409cad9f0e6df2cbc428af085b07be49926f86d5', X'f410b621502efc2a7c4af9cc73daa61b25cf620317f19160ec6a0504a3222229');
insert into replicas values (X'01a22ab13b547767a214fbd31e08978e', 'fs-7aoh1rcmqo63', 1796012587182, '[[0,2]]', X'70e1a6b37c8455252b672957409cad9f0e6df2cbc428af085b07be49926f86d5', X'f410b621502efc2a7c4af9cc73daa61b25cf620317f19160ec6a0504a3222229');
insert into replicas values (X'01a22ab13be07323ba9b35e5e086023d', 'fs-0p26ebmtef0n', 1796012586997, '[[0,1]]', X'b1c4b79edaed1a737bff254f5325092f214b7595224b0552e0c0d04a9cbc3718', X'84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882');
insert into replicas values (X'01a22ab13be07323ba9b35e5e086023d', 'fs-7aoh1rcmqo63', 1796012587184, '[[0,1]]', X'b1c4b79edaed1a737bff254f5325092f214b7595224b0552e0c0d04a9cbc3718', X'84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882');
insert into replicas values (X'01a22ab13c2a7785b7db35f8e930665a', 'fs-0p26ebmtef0n', 1796012586999, '[[0,1]]', X'736c372576f5b973d984ada6785b676dd6baba6d972bb509dc7503b850392bb5', X'283bb9deef02e6843abfb538efa1eca70801bd8a701c3f98191e123496339247');
insert into replicas values (X'01a22ab13c2a7785b7db35f8e930665a', 'fs-7aoh1rcmqo63', 1796012587186, '[[0,1]]', X'736c372576f5b973d984ada6785b676dd6baba6d972bb509dc7503b850392bb5', X'283bb9deef02e6843abfb538efa1eca70801bd8a701c3f98191e123496339247');
insert into replicas values (X'01a22ab13ce874f99960eee69f4f47d8', 'fs-0p26ebmtef0n', 1796012587000, '[[0,1]]', NULL, NULL);
insert into replicas values (X'01a22ab13ce874f99960eee69f4f47d8', 'fs-7aoh1rcmqo63', 1796012587187, '[[0,1]]', NULL, NULL);
insert into replicas values (X'01a22ab13d7172a39e32f545c45e3b87', 'fs-0p26ebmtef0n', 1796012587005, '[[0,3]]', X'6b01dba0d73214f503a88e705a09bf75d6736570adf707ffd62e70fcf4356834', X'bf6c888325d5b462f0fe07dfcfc03cc84a6a87c937db0b05ee43cb1980501184');
insert into replicas values (X'01a22ab13d7172a39e32f545c45e3b87', 'fs-7aoh1rcmqo63', 1796012587192, '[[0,3]]', X'6b01dba0d73214f503a88e705a09bf75d6736570adf707ffd62e70fcf4356834', X'bf6c888325d5b462f0fe07dfcfc03cc84a6a87c937db0b05ee43cb1980501184');
insert into tokens values (X'0f92e0a8ba38fd7371328150fcb8f2cb59e7c322ca9b734bd4bdf3488d40445a', X'01a22ab13d5872b38f7bdf408ad1797b', X'01a22ab13b547767a214fbd31e08978e', 2, 4102444800000, 1, '{"token_hash":"0f92e0a8ba38fd7371328150fcb8f2cb59e7c322ca9b734bd4bdf3488d40445a","token_id":"01a22ab1-3d58-72b3-8f7b-df408ad1797b","file":"01a22ab1-3b54-7767-a214-fbd31e08978e","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}');
insert into tokens values (X'28b55aaab4f407d13ca9da239317eb95a24dfc1228010f73a4de61904d6597cc', X'01a22ab13b547767a214fbd4c2327b80', X'01a22ab13b547767a214fbd31e08978e', 2, 4102444800000, 0, '{"token_hash":"28b55aaab4f407d13ca9da239317eb95a24dfc1228010f73a4de61904d6597cc","token_id":"01a22ab1-3b54-7767-a214-fbd4c2327b80","file":"01a22ab1-3b54-7767-a214-fbd31e08978e","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":1500000,"chunk_size":1048576,"targets":["fs-0p26ebmtef0n","fs-7aoh1rcmqo63"]}');
insert into tokens values (X'30d1ccb760737ed5e528e237bc7a2caa1639c0fb6396ce16e9f724cf0c20d5c1', X'01a22ab13f9f72818dd41d20f70680a7', X'01a22ab13d7172a39e32f545c45e3b87', 0, 4102444800000, 0, '{"token_hash":"30d1ccb760737ed5e528e237bc7a2caa1639c0fb6396ce16e9f724cf0c20d5c1","token_id":"01a22ab1-3f9f-7281-8dd4-1d20f70680a7","file":"01a22ab1-3d71-72a3-9e32-f545c45e3b87","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}');
insert into tokens values (X'332ff48a40286a376a5c95856ef4a8a7b63e60707f0a40ab1c79dbbdcfb987c0', X'01a22ab13ce874f99960eee7514b8906', X'01a22ab13ce874f99960eee69f4f47d8', 2, 4102444800000, 0, '{"token_hash":"332ff48a40286a376a5c95856ef4a8a7b63e60707f0a40ab1c79dbbdcfb987c0","token_id":"01a22ab1-3ce8-74f9-9960-eee7514b8906","file":"01a22ab1-3ce8-74f9-9960-eee69f4f47d8","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":1500000,"chunk_size":1048576,"targets":["fs-0p26ebmtef0n","fs-7aoh1rcmqo63"]}');
insert into tokens values (X'357a33e4b1e38883fc19a9ce2c8fd83ea7aca4e51cafd3a6785219f5a30345a6', X'01a22ab13c2a7785b7db35f999948661', X'01a22ab13c2a7785b7db35f8e930665a', 1, 4102444800000, 0, '{"token_hash":"357a33e4b1e38883fc19a9ce2c8fd83ea7aca4e51cafd3a6785219f5a30345a6","token_id":"01a22ab1-3c2a-7785-b7db-35f999948661","file":"01a22ab1-3c2a-7785-b7db-35f8e930665a","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":4,"chunk_size":1048576,"targets":["fs-0p26ebmtef0n","fs-7aoh1rcmqo63"]}');
insert into tokens values (X'63d5bab3d71a2bca0fb8745d272fdfc395cbcc7cd69d9680ce5ea28f52532101', X'01a22ab13be07323ba9b35e6d6304319', X'01a22ab13be07323ba9b35e5e086023d', 1, 4102444800000, 0, '{"token_hash":"63d5bab3d71a2bca0fb8745d272fdfc395cbcc7cd69d9680ce5ea28f52532101","token_id":"01a22ab1-3be0-7323-ba9b-35e6d6304319","file":"01a22ab1-3be0-7323-ba9b-35e5e086023d","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":10,"chunk_size":1048576,"targets":["fs-7aoh1rcmqo63","fs-0p26ebmtef0n"]}');
insert into tokens values (X'f58e1c165fd7669636a547a07c3fb51bf6826545343be878398de1f53b534571', X'01a22ab13fb0776ca62120f81ce1c0fb', X'01a22ab13d7172a39e32f545c45e3b87', 0, 4102444800000, 0, '{"token_hash":"f58e1c165fd7669636a547a07c3fb51bf6826545343be878398de1f53b534571","token_id":"01a22ab1-3fb0-776c-a621-20f81ce1c0fb","file":"01a22ab1-3d71-72a3-9e32-f545c45e3b87","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}');
insert into tokens values (X'fd31df635d39ac104777542d6d23d6e829ed318226feaf3e9a326e4f6633630b', X'01a22ab13d4e71f28844f3e5a9aa1dc3', X'01a22ab13b547767a214fbd31e08978e', 1, 4102444800000, 0, '{"token_hash":"fd31df635d39ac104777542d6d23d6e829ed318226feaf3e9a326e4f6633630b","token_id":"01a22ab1-3d4e-71f2-8844-f3e5a9aa1dc3","file":"01a22ab1-3b54-7767-a214-fbd31e08978e","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}');
insert into outbox values (1, 'zone.eu', 0, 1796012587860, '{"type":"token.granted","grants":[{"token_hash":"28b55aaab4f407d13ca9da239317eb95a24dfc1228010f73a4de61904d6597cc","token_id":"01a22ab1-3b54-7767-a214-fbd4c2327b80","file":"01a22ab1-3b54-7767-a214-fbd31e08978e","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":1500000,"chunk_size":1048576,"targets":["fs-0p26ebmtef0n","fs-7aoh1rcmqo63"]}]}', 1);
insert into outbox values (2, 'zone.eu', 1, 1796012587974, '{"type":"file.published","file":"01a22ab1-3b54-7767-a214-fbd31e08978e","size":1500000,"chunk_size":1048576,"root":"70e1a6b37c8455252b672957409cad9f0e6df2cbc428af085b07be49926f86d5","sha256":"f410b621502efc2a7c4af9cc73daa61b25cf620317f19160ec6a0504a3222229"}', 1);
insert into outbox values (3, 'zone.eu', 2, 1796012588000, '{"type":"token.granted","grants":[{"token_hash":"63d5bab3d71a2bca0fb8745d272fdfc395cbcc7cd69d9680ce5ea28f52532101","token_id":"01a22ab1-3be0-7323-ba9b-35e6d6304319","file":"01a22ab1-3be0-7323-ba9b-35e5e086023d","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":10,"chunk_size":1048576,"targets":["fs-7aoh1rcmqo63","fs-0p26ebmtef0n"]}]}', 1);
insert into outbox values (4, 'zone.eu', 3, 1796012588065, '{"type":"file.published","file":"01a22ab1-3be0-7323-ba9b-35e5e086023d","size":10,"chunk_size":1048576,"root":"b1c4b79edaed1a737bff254f5325092f214b7595224b0552e0c0d04a9cbc3718","sha256":"84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"}', 1);
insert into outbox values (5, 'zone.eu', 4, 1796012588074, '{"type":"token.granted","grants":[{"token_hash":"357a33e4b1e38883fc19a9ce2c8fd83ea7aca4e51cafd3a6785219f5a30345a6","token_id":"01a22ab1-3c2a-7785-b7db-35f999948661","file":"01a22ab1-3c2a-7785-b7db-35f8e930665a","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":4,"chunk_size":1048576,"targets":["fs-0p26ebmtef0n","fs-7aoh1rcmqo63"]}]}', 1);
insert into outbox values (6, 'zone.eu', 5, 1796012588141, '{"type":"file.published","file":"01a22ab1-3c2a-7785-b7db-35f8e930665a","size":4,"chunk_size":1048576,"root":"736c372576f5b973d984ada6785b676dd6baba6d972bb509dc7503b850392bb5","sha256":"283bb9deef02e6843abfb538efa1eca70801bd8a701c3f98191e123496339247"}', 1);
insert into outbox values (7, 'zone.eu', 6, 1796012588264, '{"type":"token.granted","grants":[{"token_hash":"332ff48a40286a376a5c95856ef4a8a7b63e60707f0a40ab1c79dbbdcfb987c0","token_id":"01a22ab1-3ce8-74f9-9960-eee7514b8906","file":"01a22ab1-3ce8-74f9-9960-eee69f4f47d8","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":1500000,"chunk_size":1048576,"targets":["fs-0p26ebmtef0n","fs-7aoh1rcmqo63"]}]}', 1);
insert into outbox values (8, 'zone.eu', 7, 1796012588366, '{"type":"token.granted","grants":[{"token_hash":"fd31df635d39ac104777542d6d23d6e829ed318226feaf3e9a326e4f6633630b","token_id":"01a22ab1-3d4e-71f2-8844-f3e5a9aa1dc3","file":"01a22ab1-3b54-7767-a214-fbd31e08978e","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}]}', 1);
insert into outbox values (9, 'zone.eu', 8, 1796012588376, '{"type":"token.granted","grants":[{"token_hash":"0f92e0a8ba38fd7371328150fcb8f2cb59e7c322ca9b734bd4bdf3488d40445a","token_id":"01a22ab1-3d58-72b3-8f7b-df408ad1797b","file":"01a22ab1-3b54-7767-a214-fbd31e08978e","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}]}', 1);
insert into outbox values (10, 'all', 0, 1796012588380, '{"type":"token.revoked","tokens":[{"token_hash":"0f92e0a8ba38fd7371328150fcb8f2cb59e7c322ca9b734bd4bdf3488d40445a","token_id":"01a22ab1-3d58-72b3-8f7b-df408ad1797b","expires_at":"2100-01-01T00:00:00Z"}]}', 1);
insert into outbox values (11, 'all', 10, 1796012588392, '{"type":"file.deleted","file":"01a22ab1-3c2a-7785-b7db-35f8e930665a"}', 1);
insert into outbox values (12, 'zone.eu', 9, 1796012588401, '{"type":"ddm.spans","job":"01a22ab1-3d71-72a3-9e32-f544ff628503"}', 1);
insert into outbox values (13, 'server.fs-7aoh1rcmqo63', 0, 1796012588879, '{"type":"replica.assigned","file":"01a22ab1-3d71-72a3-9e32-f545c45e3b87"}', 1);
insert into outbox values (14, 'server.fs-0p26ebmtef0n', 0, 1796012588879, '{"type":"replica.assigned","file":"01a22ab1-3d71-72a3-9e32-f545c45e3b87"}', 1);
insert into outbox values (15, 'zone.eu', 12, 1796012588959, '{"type":"token.granted","grants":[{"token_hash":"30d1ccb760737ed5e528e237bc7a2caa1639c0fb6396ce16e9f724cf0c20d5c1","token_id":"01a22ab1-3f9f-7281-8dd4-1d20f70680a7","file":"01a22ab1-3d71-72a3-9e32-f545c45e3b87","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}]}', 1);
insert into outbox values (16, 'zone.eu', 15, 1796012588976, '{"type":"token.granted","grants":[{"token_hash":"f58e1c165fd7669636a547a07c3fb51bf6826545343be878398de1f53b534571","token_id":"01a22ab1-3fb0-776c-a621-20f81ce1c0fb","file":"01a22ab1-3d71-72a3-9e32-f545c45e3b87","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}]}', 1);
insert into streams values ('all', 11, 0);
insert into streams values ('server.fs-0p26ebmtef0n', 14, 0);
insert into streams values ('server.fs-7aoh1rcmqo63', 13, 0);
insert into streams values ('zone.eu', 16, 0);
insert into assignments values (X'01a22ab13b547767a214fbd31e08978e', 'fs-0p26ebmtef0n', 1, 1, 1796012587860);
insert into assignments values (X'01a22ab13b547767a214fbd31e08978e', 'fs-7aoh1rcmqo63', 1, 1, 1796012587860);
insert into assignments values (X'01a22ab13be07323ba9b35e5e086023d', 'fs-0p26ebmtef0n', 1, 1, 1796012588000);
insert into assignments values (X'01a22ab13be07323ba9b35e5e086023d', 'fs-7aoh1rcmqo63', 1, 1, 1796012588000);
insert into assignments values (X'01a22ab13ce874f99960eee69f4f47d8', 'fs-0p26ebmtef0n', 1, 0, 1796012588264);
insert into assignments values (X'01a22ab13ce874f99960eee69f4f47d8', 'fs-7aoh1rcmqo63', 1, 0, 1796012588264);
insert into assignments values (X'01a22ab13d7172a39e32f545c45e3b87', 'fs-0p26ebmtef0n', 1, 1, 1796012588879);
insert into assignments values (X'01a22ab13d7172a39e32f545c45e3b87', 'fs-7aoh1rcmqo63', 1, 1, 1796012588879);
insert into audit values (1, 1796012586761, 'settings', NULL, NULL, NULL, 1, '{"audit_age_s":7776000,"audit_rows":500000,"broker":false,"download_lifetime_s":900,"listen":"127.0.0.1:0","open_registration":false,"session_lifetime_s":43200,"trusted_proxies":[],"upload_lifetime_s":86400}');
insert into audit values (2, 1796012587027, 'server-enrolled', NULL, 'fs-0p26ebmtef0n', NULL, 1, '{"url":"http://127.0.0.1:40375/","zone":"eu"}');
insert into audit values (3, 1796012587209, 'server-enrolled', NULL, 'fs-7aoh1rcmqo63', NULL, 1, '{"url":"http://127.0.0.1:33325/","zone":"eu"}');
insert into audit values (4, 1796012587342, 'user-added', NULL, 'admin@example.org', NULL, 1, '{"role":"admin"}');
insert into audit values (5, 1796012587409, 'user-added', NULL, 'publisher@example.org', NULL, 1, '{"role":"publisher"}');
insert into audit values (6, 1796012587483, 'user-added', NULL, 'closed@example.org', NULL, 1, '{"role":"reader"}');
insert into audit values (7, 1796012587513, 'user-changed', NULL, 'closed@example.org', NULL, 1, '{"disabled":true,"password":false,"role":null}');
insert into audit values (8, 1796012587605, 'login', 1, NULL, '127.0.0.1', 1, NULL);
insert into audit values (9, 1796012587636, 'login', 2, NULL, '127.0.0.1', 1, NULL);
insert into audit values (10, 1796012587860, 'file-created', 2, '01a22ab1-3b54-7767-a214-fbd31e08978e', '127.0.0.1', 1, '{"name":"one.bin","size":1500000}');
insert into audit values (11, 1796012587862, 'grant', 2, '01a22ab1-3b54-7767-a214-fbd31e08978e', '127.0.0.1', 1, '{"expires_at":"2026-12-01T04:23:07.860531651Z","token_id":"01a22ab1-3b54-7767-a214-fbd4c2327b80","upload":true,"zones":null}');
insert into audit values (12, 1796012587981, 'file-committed', 2, '01a22ab1-3b54-7767-a214-fbd31e08978e', '127.0.0.1', 1, '{"sha256":"f410b621502efc2a7c4af9cc73daa61b25cf620317f19160ec6a0504a3222229"}');
insert into audit values (13, 1796012588000, 'file-created', 1, '01a22ab1-3be0-7323-ba9b-35e5e086023d', '127.0.0.1', 1, '{"name":"two.bin","size":10}');
insert into audit values (14, 1796012588002, 'grant', 1, '01a22ab1-3be0-7323-ba9b-35e5e086023d', '127.0.0.1', 1, '{"expires_at":"2026-12-01T04:23:08.000202602Z","token_id":"01a22ab1-3be0-7323-ba9b-35e6d6304319","upload":true,"zones":null}');
insert into audit values (15, 1796012588065, 'file-committed', 1, '01a22ab1-3be0-7323-ba9b-35e5e086023d', '127.0.0.1', 1, '{"sha256":"84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"}');
insert into audit values (16, 1796012588074, 'file-created', 1, '01a22ab1-3c2a-7785-b7db-35f8e930665a', '127.0.0.1', 1, '{"name":"gone.bin","size":4}');
insert into audit values (17, 1796012588075, 'grant', 1, '01a22ab1-3c2a-7785-b7db-35f8e930665a', '127.0.0.1', 1, '{"expires_at":"2026-12-01T04:23:08.074706298Z","token_id":"01a22ab1-3c2a-7785-b7db-35f999948661","upload":true,"zones":null}');
insert into audit values (18, 1796012588142, 'file-committed', 1, '01a22ab1-3c2a-7785-b7db-35f8e930665a', '127.0.0.1', 1, '{"sha256":"283bb9deef02e6843abfb538efa1eca70801bd8a701c3f98191e123496339247"}');
insert into audit values (19, 1796012588264, 'file-created', 2, '01a22ab1-3ce8-74f9-9960-eee69f4f47d8', '127.0.0.1', 1, '{"name":"half.bin","size":1500000}');
insert into audit values (20, 1796012588268, 'grant', 2, '01a22ab1-3ce8-74f9-9960-eee69f4f47d8', '127.0.0.1', 1, '{"expires_at":"2026-12-01T04:23:08.264355513Z","token_id":"01a22ab1-3ce8-74f9-9960-eee7514b8906","upload":true,"zones":null}');
insert into audit values (21, 1796012588369, 'grant', 1, '01a22ab1-3b54-7767-a214-fbd31e08978e', '127.0.0.1', 1, '{"expires_at":"2026-11-30T04:38:08.366300325Z","token_id":"01a22ab1-3d4e-71f2-8844-f3e5a9aa1dc3","upload":false,"zones":null}');
insert into audit values (22, 1796012588376, 'grant', 2, '01a22ab1-3b54-7767-a214-fbd31e08978e', '127.0.0.1', 1, '{"expires_at":"2026-11-30T04:38:08.376108649Z","token_id":"01a22ab1-3d58-72b3-8f7b-df408ad1797b","upload":false,"zones":null}');
insert into audit values (23, 1796012588380, 'revocation', 2, '01a22ab1-3d58-72b3-8f7b-df408ad1797b', '127.0.0.1', 1, NULL);
insert into audit values (24, 1796012588393, 'file-deleted', 1, '01a22ab1-3c2a-7785-b7db-35f8e930665a', '127.0.0.1', 1, NULL);
insert into audit values (25, 1796012588401, 'job-created', 1, '01a22ab1-3d71-72a3-9e32-f544ff628503', '127.0.0.1', 1, '{"keep":true,"start_at":null,"url":"http://127.0.0.1:38143/job.bin"}');
insert into audit values (26, 1796012588960, 'grant', 0, '01a22ab1-3d71-72a3-9e32-f545c45e3b87', NULL, 1, '{"expires_at":"2026-11-30T04:38:08.959786968Z","token_id":"01a22ab1-3f9f-7281-8dd4-1d20f70680a7","upload":false,"zones":null}');
insert into audit values (27, 1796012588977, 'grant', 0, '01a22ab1-3d71-72a3-9e32-f545c45e3b87', NULL, 1, '{"expires_at":"2026-11-30T04:38:08.97636041Z","token_id":"01a22ab1-3fb0-776c-a621-20f81ce1c0fb","upload":false,"zones":null}');
insert into audit values (28, 1796012589024, 'job-created', 2, '01a22ab1-3fe0-72d4-84c9-47a26aa4783d', '127.0.0.1', 1, '{"keep":true,"start_at":"2027-11-01T00:00:00Z","url":"http://127.0.0.1:38143/later.bin"}');
insert into jobs values (X'01a22ab13d7172a39e32f544ff628503', 'done', '{"id":"01a22ab1-3d71-72a3-9e32-f544ff628503","url":"http://127.0.0.1:38143/job.bin","name":"job.bin","named":false,"state":"done","reason":null,"content":{"file":"01a22ab1-3d71-72a3-9e32-f545c45e3b87","size":3145728,"chunk_size":1048576,"validator":{"etag":"\"1\""},"origin":"http://127.0.0.1:38143"},"formerly":[],"expected":null,"found":"bf6c888325d5b462f0fe07dfcfc03cc84a6a87c937db0b05ee43cb1980501184","generation":0,"connections":1,"start_at":"2026-11-30T04:23:08.401497909Z","created_at":"2026-11-30T04:23:08.401497909Z","over_at":"2026-11-30T04:23:08.879583407Z","keep":true,"expires_at":"2100-01-01T00:00:00Z","zones":null,"owner":1,"fence":5,"wasted":2097152,"shelf":"Published","examined":false,"examining":false,"trying":null}');
insert into jobs values (X'01a22ab13fe072d484c947a26aa4783d', 'scheduled', '{"id":"01a22ab1-3fe0-72d4-84c9-47a26aa4783d","url":"http://127.0.0.1:38143/later.bin","name":"later.bin","named":false,"state":"scheduled","reason":null,"content":null,"formerly":[],"expected":null,"found":null,"generation":0,"connections":1,"start_at":"2100-01-01T00:00:00Z","created_at":"2026-11-30T04:23:09.024894032Z","over_at":null,"keep":true,"expires_at":null,"zones":null,"owner":2,"fence":0,"wasted":0,"shelf":"No","examined":false,"examining":false,"trying":null}');
insert into job_workers values (X'01a22ab13d7172a39e32f544ff628503', 'fs-0p26ebmtef0n', 0, 0, 2097152);
insert into job_workers values (X'01a22ab13d7172a39e32f544ff628503', 'fs-7aoh1rcmqo63', 0, 0, 3145728);
insert into job_chunks values (X'01a22ab13d7172a39e32f544ff628503', 0, X'8a60d7c2c106707ca42105493881468151316dc4bad4b2796b87f33694775ed6', 'fs-0p26ebmtef0n', 'fs-0p26ebmtef0n', 1);
insert into job_chunks values (X'01a22ab13d7172a39e32f544ff628503', 1, X'59f5ae14ac48fef5de242c94689dda0908f20791adef28a9f1855926feb2f747', 'fs-7aoh1rcmqo63', 'fs-7aoh1rcmqo63', 0);
insert into job_chunks values (X'01a22ab13d7172a39e32f544ff628503', 2, X'eed2dbe643f8b74a0c1db9cfd8d957b540b31feed66a1d517f016b3bd360b2e0', 'fs-0p26ebmtef0n', 'fs-0p26ebmtef0n', 1);
insert into names values (1, X'01a22ab13b547767a214fbd31e08978e', 'one.bin');
insert into names values (2, X'01a22ab13be07323ba9b35e5e086023d', 'two.bin');
insert into names values (4, X'01a22ab13ce874f99960eee69f4f47d8', 'half.bin');
insert into names values (5, X'01a22ab13d7172a39e32f545c45e3b87', 'job.bin');
insert into tallies values ('available', 3);
insert into tallies values ('complete', 8);
insert into tallies values ('deleting', 1);
insert into tallies values ('partial', 2);
insert into tallies values ('uploading', 1);
insert into job_askers values (X'01a22ab13d7172a39e32f544ff628503', 1, X'', 1, 0);
insert into job_askers values (X'01a22ab13fe072d484c947a26aa4783d', 2, X'', 1, 0);
delete from sqlite_sequence;
insert into sqlite_sequence values ('audit', 28);
insert into sqlite_sequence values ('outbox', 16);
insert into name_parts (name_parts) values ('rebuild');
CREATE INDEX sessions_by_expiry on sessions (expires_at);
CREATE INDEX sessions_by_user on sessions (user_id);
CREATE INDEX files_unfinished on files (created_at) where state = 'uploading';
CREATE INDEX tokens_by_expiry on tokens (expires_at);
CREATE INDEX tokens_by_user on tokens (user_id);
CREATE INDEX outbox_by_stream on outbox (stream, seq);
CREATE INDEX outbox_waiting on outbox (seq) where sent = 0;
CREATE INDEX files_unsettled on files (id) where state = 'available' and settled = 0;
CREATE INDEX assignments_by_server on assignments (server_id, file_id) where wanted = 1;
CREATE INDEX assignments_in_flight on assignments (server_id) where wanted = 1 and complete = 0;
CREATE UNIQUE INDEX sessions_by_id on sessions (id);
CREATE INDEX audit_by_kind on audit (kind, id);
CREATE INDEX audit_by_time on audit (at);
CREATE TRIGGER audit_is_never_changed before update on audit
begin
    select raise(abort, 'the audit log is append-only');
end;
CREATE INDEX files_deleted on files (deleted_seq) where state = 'deleting';
CREATE INDEX files_of_jobs on files (job_id) where job_id is not null;
CREATE TRIGGER names_are_indexed after insert on names
begin
    insert into name_parts (rowid, name) values (new.n, new.name);
end;
CREATE TRIGGER names_leave_the_index after delete on names
begin
    insert into name_parts (name_parts, rowid, name) values ('delete', old.n, old.name);
end;
CREATE TRIGGER files_bring_their_names after insert on files when new.state <> 'deleting'
begin
    insert into names (file_id, name) values (new.id, new.name);
end;
CREATE TRIGGER removed_files_lose_their_names after update of state on files when new.state = 'deleting'
begin
    delete from names where file_id = new.id;
end;
CREATE TRIGGER files_are_counted after insert on files
begin
    update tallies set count = count + 1 where kind = new.state;
end;
CREATE TRIGGER files_are_counted_out after delete on files
begin
    update tallies set count = count - 1 where kind = old.state;
end;
CREATE TRIGGER files_are_counted_anew after update of state on files when old.state <> new.state
begin
    update tallies set count = count + iif(kind = new.state, 1, -1) where kind in (old.state, new.state);
end;
CREATE TRIGGER replicas_are_counted after insert on replicas
begin
    update tallies set count = count + 1 where kind = iif(new.root is null, 'partial', 'complete');
end;
CREATE TRIGGER replicas_are_counted_out after delete on replicas
begin
    update tallies set count = count - 1 where kind = iif(old.root is null, 'partial', 'complete');
end;
CREATE TRIGGER replicas_are_counted_anew after update of root on replicas when (old.root is null) <> (new.root is null)
begin
    update tallies set count = count + iif((kind = 'partial') = (new.root is null), 1, -1)
        where kind in ('partial', 'complete');
end;
CREATE INDEX unknown_files_by_file on unknown_files (file_id);
CREATE INDEX job_askers_by_user on job_askers (user_id);
commit;
