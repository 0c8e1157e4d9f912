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
CREATE TABLE state (
    one integer primary key check (one = 1),
    epoch blob check (length(epoch) = 16),
    -- The latest time heard from the info-server, in milliseconds since 1970.
    high_water integer,
    report_counter integer not null default 0
) strict;
CREATE TABLE file (
    id blob primary key check (length(id) = 16),
    size integer not null,
    chunk_size integer not null,
    -- Set in the transaction that adds the last chunk.
    root blob check (length(root) = 32),
    -- Set once the whole file has been read back from disk.
    sha256 blob check (length(sha256) = 32)
) strict, without rowid;
CREATE TABLE chunk (
    file blob not null references file (id) on delete cascade,
    n integer not null,
    digest blob not null check (length(digest) = 32),
    primary key (file, n)
) strict, without rowid;
CREATE TABLE report (
    file blob primary key check (length(file) = 16),
    counter integer not null
) strict, without rowid;
CREATE TABLE token (
    hash blob primary key check (length(hash) = 32),
    seq integer not null,
    expires_at integer not null,
    body text
) strict, without rowid;
CREATE TABLE cursor (
    stream text primary key,
    seq integer not null
) strict, without rowid;
CREATE TABLE assignment (
    file blob primary key check (length(file) = 16),
    seq integer not null,
    state text not null check (state in ('assigned', 'removed', 'deleted'))
) strict, without rowid;
CREATE TABLE scrub (
    one integer primary key check (one = 1),
    -- When the last round that came to its end began.
    done_at integer,
    -- When the running round began; null between rounds.
    begun_at integer,
    -- The last file that the running round is done with.
    file blob check (length(file) = 16)
) strict;
CREATE TABLE repair (
    file blob primary key check (length(file) = 16)
) strict, without rowid;
CREATE TABLE question (
    file blob primary key references file (id) on delete cascade
) strict, without rowid;
CREATE TABLE unknown (
    file blob primary key references file (id) on delete cascade
) strict, without rowid;
CREATE TABLE fetched (
    file blob primary key references file (id) on delete cascade,
    job blob not null check (length(job) = 16)
) strict, without rowid;
insert into _sqlx_migrations values (1, 'initial', '2026-11-30 04:23:06', 1, X'fcf50217bf0364821ecefffd6a1604e0d4639d0d8708511df714a74c4e074fe8fa25db6db918759c4397e3106649b309', 1975668);
insert into _sqlx_migrations values (2, 'replication', '2026-11-30 04:23:06', 1, X'985754a3d884e78b33bc85b51dee245f54bf65bfcb8b245a97f26944d77c1f0004a052bc1b224820a3e49d012629e53f', 4046055);
insert into _sqlx_migrations values (10, 'reconcile', '2026-11-30 04:23:06', 1, X'62e8b7c61eb31bc51c4a4333cf5e58e7075fb03d5121bf8829d63a0c4b42db1c6a15f70a2ad14e03f17262bab06496e4', 1849310);
insert into _sqlx_migrations values (20, 'fetched', '2026-11-30 04:23:06', 1, X'93b9f3b116e8c62da34b50b200c4fbda59ff7a56c9003bf7b9cd87d6ad0ebaf3e620953a7e8e6c80a0c06819c5541177', 10775722);
insert into file values (X'01a22ab13b547767a214fbd31e08978e', 1500000, 1048576, X'70e1a6b37c8455252b672957409cad9f0e6df2cbc428af085b07be49926f86d5', X'f410b621502efc2a7c4af9cc73daa61b25cf620317f19160ec6a0504a3222229');
insert into file values (X'01a22ab13be07323ba9b35e5e086023d', 10, 1048576, X'b1c4b79edaed1a737bff254f5325092f214b7595224b0552e0c0d04a9cbc3718', X'84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882');
insert into file values (X'01a22ab13ce874f99960eee69f4f47d8', 1500000, 1048576, NULL, NULL);
insert into file values (X'01a22ab13d7172a39e32f545c45e3b87', 3145728, 1048576, X'6b01dba0d73214f503a88e705a09bf75d6736570adf707ffd62e70fcf4356834', X'bf6c888325d5b462f0fe07dfcfc03cc84a6a87c937db0b05ee43cb1980501184');
insert into chunk values (X'01a22ab13b547767a214fbd31e08978e', 0, X'e76e4c02227083fd12207b7bc85287bb9e02a618fed3bd8eab1bc2daeda2fb53');
insert into chunk values (X'01a22ab13b547767a214fbd31e08978e', 1, X'794f173161ac35dad933ef69067934683ba3fdeda58e11ef1606766f967b7c8c');
insert into chunk values (X'01a22ab13be07323ba9b35e5e086023d', 0, X'84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882');
insert into chunk values (X'01a22ab13ce874f99960eee69f4f47d8', 0, X'304611a90b6d423196a7714dcc4ea972da05e140be34ed42be3194c38c30f57d');
insert into chunk values (X'01a22ab13d7172a39e32f545c45e3b87', 0, X'8a60d7c2c106707ca42105493881468151316dc4bad4b2796b87f33694775ed6');
insert into chunk values (X'01a22ab13d7172a39e32f545c45e3b87', 1, X'59f5ae14ac48fef5de242c94689dda0908f20791adef28a9f1855926feb2f747');
insert into chunk values (X'01a22ab13d7172a39e32f545c45e3b87', 2, X'eed2dbe643f8b74a0c1db9cfd8d957b540b31feed66a1d517f016b3bd360b2e0');
insert into token values (X'0f92e0a8ba38fd7371328150fcb8f2cb59e7c322ca9b734bd4bdf3488d40445a', 10, 4102444800000, NULL);
insert into token values (X'28b55aaab4f407d13ca9da239317eb95a24dfc1228010f73a4de61904d6597cc', 1, 4102444800000, '{"token_hash":"28b55aaab4f407d13ca9da239317eb95a24dfc1228010f73a4de61904d6597cc","token_id":"01a22ab1-3b54-7767-a214-fbd4c2327b80","file":"01a22ab1-3b54-7767-a214-fbd31e08978e","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":1500000,"chunk_size":1048576,"targets":["fs-0p26ebmtef0n","fs-7aoh1rcmqo63"]}');
insert into token values (X'30d1ccb760737ed5e528e237bc7a2caa1639c0fb6396ce16e9f724cf0c20d5c1', 15, 4102444800000, '{"token_hash":"30d1ccb760737ed5e528e237bc7a2caa1639c0fb6396ce16e9f724cf0c20d5c1","token_id":"01a22ab1-3f9f-7281-8dd4-1d20f70680a7","file":"01a22ab1-3d71-72a3-9e32-f545c45e3b87","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}');
insert into token values (X'332ff48a40286a376a5c95856ef4a8a7b63e60707f0a40ab1c79dbbdcfb987c0', 7, 4102444800000, '{"token_hash":"332ff48a40286a376a5c95856ef4a8a7b63e60707f0a40ab1c79dbbdcfb987c0","token_id":"01a22ab1-3ce8-74f9-9960-eee7514b8906","file":"01a22ab1-3ce8-74f9-9960-eee69f4f47d8","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":1500000,"chunk_size":1048576,"targets":["fs-0p26ebmtef0n","fs-7aoh1rcmqo63"]}');
insert into token values (X'357a33e4b1e38883fc19a9ce2c8fd83ea7aca4e51cafd3a6785219f5a30345a6', 5, 4102444800000, '{"token_hash":"357a33e4b1e38883fc19a9ce2c8fd83ea7aca4e51cafd3a6785219f5a30345a6","token_id":"01a22ab1-3c2a-7785-b7db-35f999948661","file":"01a22ab1-3c2a-7785-b7db-35f8e930665a","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":4,"chunk_size":1048576,"targets":["fs-0p26ebmtef0n","fs-7aoh1rcmqo63"]}');
insert into token values (X'63d5bab3d71a2bca0fb8745d272fdfc395cbcc7cd69d9680ce5ea28f52532101', 3, 4102444800000, '{"token_hash":"63d5bab3d71a2bca0fb8745d272fdfc395cbcc7cd69d9680ce5ea28f52532101","token_id":"01a22ab1-3be0-7323-ba9b-35e6d6304319","file":"01a22ab1-3be0-7323-ba9b-35e5e086023d","expires_at":"2100-01-01T00:00:00Z","purpose":"upload","size":10,"chunk_size":1048576,"targets":["fs-7aoh1rcmqo63","fs-0p26ebmtef0n"]}');
insert into token values (X'f58e1c165fd7669636a547a07c3fb51bf6826545343be878398de1f53b534571', 16, 4102444800000, '{"token_hash":"f58e1c165fd7669636a547a07c3fb51bf6826545343be878398de1f53b534571","token_id":"01a22ab1-3fb0-776c-a621-20f81ce1c0fb","file":"01a22ab1-3d71-72a3-9e32-f545c45e3b87","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}');
insert into token values (X'fd31df635d39ac104777542d6d23d6e829ed318226feaf3e9a326e4f6633630b', 8, 4102444800000, '{"token_hash":"fd31df635d39ac104777542d6d23d6e829ed318226feaf3e9a326e4f6633630b","token_id":"01a22ab1-3d4e-71f2-8844-f3e5a9aa1dc3","file":"01a22ab1-3b54-7767-a214-fbd31e08978e","expires_at":"2100-01-01T00:00:00Z","purpose":"download"}');
insert into cursor values ('all', 16);
insert into cursor values ('zone.eu', 16);
insert into assignment values (X'01a22ab13c2a7785b7db35f8e930665a', 11, 'deleted');
insert into fetched values (X'01a22ab13d7172a39e32f545c45e3b87', X'01a22ab13d7172a39e32f544ff628503');
CREATE INDEX token_expiry on token (expires_at);
commit;
