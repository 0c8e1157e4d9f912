//! Fills the catalogue in a data folder with files that stand on the servers enrolled there, for measurements: see benchmarks/catalogue.
//!
//! `fill FOLDER FILES`, while no info-server runs on the folder, with an account and at least one server in it.

#![expect(clippy::print_stdout, reason = "a program that measures prints")]

use std::{path::PathBuf, time::Instant};

use anyhow::Context as _;
use ddm_info_server::db::Database;
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};

/// Replicas of each file.
const REPLICAS: u32 = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().context("the folder")?);
    let files: i64 = args.next().context("how many files")?.parse()?;
    let database = folder.join("catalogue.sqlite");
    // Brings the schema up to date.
    Database::open(&database).await?.close().await;
    let options = SqliteConnectOptions::new().filename(&database).pragma("synchronous", "off");
    let mut write = options.pragma("cache_size", "-262144").disable_statement_logging().connect().await?;
    let begun = Instant::now();
    let mut transaction = write.begin().await?;
    for sql in [
        "create temp table place as select row_number() over (order by id) - 1 as n, id from servers",
        "create unique index temp.places on place (n)",
        "create temp table copy as select value as k from json_each('[0,1,2]')",
    ] {
        sqlx::query(sql).execute(&mut *transaction).await?;
    }
    // Ids as of files that were announced one a millisecond; names as people give them.
    sqlx::query(
        "with recursive one (i) as (select 1 union all select i + 1 from one where i < ?1)
         insert into files (id, name, size, chunk_size, state, quorum, owner, created_at, sha256, root, digests, policy, settled)
         select unhex(printf('%012x7%03x8%03x%012x', 1700000000000 + i, abs(random()) % 4096, abs(random()) % 4096,
                abs(random()) % 281474976710656)),
             printf('%s-%s-%07d.%s', json_extract('[\"backup\",\"release\",\"dataset\",\"image\",\"video\"]', printf('$[%d]', i % 5)),
                json_extract('[\"north\",\"south\",\"east\",\"west\"]', printf('$[%d]', i % 4)), i,
                json_extract('[\"iso\",\"tar\",\"img\"]', printf('$[%d]', i % 3))),
             1048576, 1048576, 'available', 2, (select min(id) from users), 1700000000000 + i,
             randomblob(32), randomblob(32), randomblob(32), '{\"replicas\":3}', 1
         from one",
    )
    .bind(files)
    .execute(&mut *transaction)
    .await?;
    let places = "from names join files on files.id = file_id join copy
         join place on place.n = (names.n * 7919 + k * 331) % (select count(*) from place)";
    for (table, columns) in [
        ("replicas (file_id, server_id, counter, runs, root)", "1, '[[0,1]]', files.root"),
        ("assignments (file_id, server_id, wanted, complete, since)", "1, 1, files.created_at"),
    ] {
        let sql =
            format!("insert or ignore into {table} select files.id, place.id, {columns} {places} where k < {REPLICAS}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    sqlx::query("pragma wal_checkpoint(truncate)").execute(&mut write).await?;
    write.close().await?;
    println!("{files} files in {:.1?}, {} MiB", begun.elapsed(), std::fs::metadata(&database)?.len() >> 20);
    Ok(())
}
