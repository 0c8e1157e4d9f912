//! P8: file systems that lack an operation, as those of removable media, in user space and on a network do.

use std::{fs, os::unix::fs::PermissionsExt as _};

use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, finish},
    process::{Failing, Server, Surroundings, eventually, tool},
};
use rustix::process::{Resource, Rlimit, prlimit};

use crate::{
    content::{MIB, file, names, sha256},
    hostile::fixture::said,
};

#[tokio::test]
async fn a_download_needs_neither_renames_without_replacing_nor_links_nor_locks_nor_synced_folders()
-> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "a.bin", 1, 3 * MIB)?;
    let id = cluster.publish(&path, &[]).await?;
    let folder = cluster.path("got");
    for (n, failing) in [
        Failing::new("renameat2,linkat", "EINVAL", "1+"),
        Failing::new("renameat2,linkat", "EOPNOTSUPP", "1+"),
        Failing::new("renameat2,linkat", "ENOSYS", "1+"),
        Failing::new("flock", "ENOLCK", "1+"),
        Failing::new("flock", "EOPNOTSUPP", "1+"),
        Failing { path: Some(folder.clone()), ..Failing::new("fsync", "EINVAL", "1+") },
        Failing::new("fallocate", "EOPNOTSUPP", "1+"),
    ]
    .into_iter()
    .enumerate()
    {
        fs::create_dir(&folder)?;
        let child = cluster.client_failing(&["get", &id, "-o", "got/x"], Some(&failing))?;
        let output = ended(child).await?;
        assert!(output.status.success(), "{n} {failing:?}: {}", said(&output));
        assert_eq!(sha256(&folder.join("x"))?, sha256(&path)?, "{failing:?}");
        assert_eq!(names(&folder)?, ["x"], "{failing:?}");
        // A file that is there is never replaced, however the file system renames.
        fs::write(folder.join("x"), "mine")?;
        let output = ended(cluster.client_failing(&["get", &id, "-o", "got/x"], Some(&failing))?).await?;
        assert_eq!(output.status.code(), Some(1), "{failing:?}");
        assert_eq!(fs::read(folder.join("x"))?, b"mine", "{failing:?}");
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

#[tokio::test]
async fn servers_work_without_a_lock_of_their_folder_and_refuse_where_their_database_has_none() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let lock = |calls, error, folder: &str| Failing {
        path: Some(cluster.path(folder).join("lock")),
        ..Failing::new(calls, error, "1+")
    };
    let (server, info) = (lock("flock", "ENOSYS", "file-server-0"), lock("flock", "EOPNOTSUPP", "info-server"));
    let (no_records, no_info_records) =
        (lock("fcntl", "ENOLCK", "file-server-0"), lock("fcntl", "ENOSYS", "info-server"));
    cluster.take_server(0)?.stop().await?;
    cluster.info.take().unwrap().stop().await?;
    cluster.restart_info_failing(Some(&info)).await?;
    cluster.restart_server_failing(0, Some(&server)).await?;
    let is_live = async || Ok((!cluster.server_ids().await?.is_empty()).then_some(()));
    eventually("the file server is live", STEP_TIMEOUT, is_live).await?;
    cluster.publish(&file(&cluster, "a.bin", 1, MIB)?, &["--quorum", "1", "--replicas", "1"]).await?;
    for log in ["file-server-0.log", "info-server.log"] {
        let text = fs::read_to_string(cluster.path(log))?;
        assert!(text.contains("nothing keeps a second server from this folder"), "{log}: {text}");
    }
    cluster.take_server(0)?.stop().await?;
    cluster.info.take().unwrap().stop().await?;
    let refused = [
        cluster.restart_info_failing(Some(&no_info_records)).await.unwrap_err(),
        cluster.restart_server_failing(0, Some(&no_records)).await.unwrap_err(),
    ];
    for refused in refused.map(|error| error.to_string()) {
        assert!(refused.contains("has no record locks") && refused.contains("--data"), "{refused}");
    }
    // Servers that share a folder of slots would take one slot.
    let slots = cluster.path("slots");
    fs::create_dir(&slots)?;
    fs::write(slots.join("kept"), b"")?;
    let (no_locks, slots) = (Failing::new("flock", "ENOSYS", "1+"), slots.display().to_string());
    let surroundings = Surroundings { failing: Some(&no_locks), ..Surroundings::default() };
    let secret = cluster.path("info-server/join-secret").display().to_string();
    let args = [
        "--join-secret-file",
        &secret,
        "--slots",
        &slots,
        "--zone",
        "eu",
        "--listen",
        "127.0.0.1:0",
        "--info",
        cluster.info_url(),
    ];
    let refused = Server::start_in(surroundings, "ddm-file-server", &args, &cluster.path("slots.log")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("--slots needs them"), "{refused}");
    Ok(())
}

async fn ended(mut client: tokio::process::Command) -> anyhow::Result<std::process::Output> {
    use std::process::Stdio;
    finish(client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?).await
}

#[tokio::test]
async fn a_file_system_that_takes_no_file_of_the_size_is_named_before_the_first_byte() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let id = cluster.publish(&file(&cluster, "a.bin", 1, 3 * MIB)?, &[]).await?;
    for calls in ["fallocate", "pwrite64"] {
        let failing = Failing::new(calls, "EFBIG", "1+");
        let output = ended(cluster.client_failing(&["get", &id, "-o", "x"], Some(&failing))?).await?;
        assert_eq!(output.status.code(), Some(1), "{calls}");
        assert!(said(&output).contains("takes no file of 3145728 bytes"), "{calls}: {}", said(&output));
        assert!(!said(&output).contains("no room"), "{calls}: {}", said(&output));
    }
    Ok(())
}

/// A command under `ulimit -f` with this number of blocks of 512 bytes.
fn limited(command: &tokio::process::Command, blocks: u64) -> tokio::process::Command {
    let command = command.as_std();
    let mut limited = tool("sh");
    limited.args(["-c", &format!("ulimit -f {blocks}; exec \"$@\""), "sh"]).arg(command.get_program());
    limited.args(command.get_args()).envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(command.get_current_dir().unwrap());
    limited
}

#[tokio::test]
async fn a_limit_of_file_sizes_ends_neither_client_nor_server_without_a_word() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let alone = ["--quorum", "1", "--replicas", "1"];
    let id = cluster.publish(&file(&cluster, "a.bin", 1, 3 * MIB)?, &alone).await?;
    let output = ended(limited(&cluster.client(&["get", &id, "-o", "x"])?, 2048)).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("takes no file of 3145728 bytes"), "{}", said(&output));

    let server = cluster.servers[0].process.as_ref().unwrap();
    let limit = Some(MIB);
    prlimit(Some(server.pid()?), Resource::Fsize, Rlimit { current: limit, maximum: limit })?;
    let path = file(&cluster, "b.bin", 2, 3 * MIB)?.display().to_string();
    let output = cluster.run_client(&[&["publish", &path][..], &alone].concat()).await?;
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(server.runs(), "{}", server.log()?);
    let output = cluster.run_client(&["get", &id, "-o", "y"]).await?;
    assert!(output.status.success(), "{}", said(&output));
    Ok(())
}

#[tokio::test]
async fn what_has_no_size_but_holds_data_is_not_published_as_nothing() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    for path in ["/proc/version", "/dev/null", "/proc/self"] {
        let output = cluster.run_client(&["publish", path]).await?;
        assert_eq!(output.status.code(), Some(1), "{path}: {}", said(&output));
        assert!(said(&output).contains("cannot publish"), "{}", said(&output));
    }
    assert_eq!(cluster.get("/v1/files").await?["files"].as_array().unwrap().len(), 0);
    Ok(())
}

#[tokio::test]
async fn an_identity_that_a_restore_left_readable_is_made_private_and_serves_on() -> anyhow::Result<()> {
    let mut cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let identity = cluster.path("file-server-0/identity.json");
    cluster.take_server(0)?.stop().await?;
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o660))?;
    cluster.restart_server(0).await?;
    assert_eq!(fs::metadata(&identity)?.permissions().mode() & 0o777, 0o600);
    Ok(())
}
