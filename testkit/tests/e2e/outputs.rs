//! P1: where a download goes, under which name, how fast, and what of a name reaches the terminal.

use std::{
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use ddm_testkit::cluster::{Cluster, Plan, finish};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;

use crate::content::{MIB, event, file};

#[tokio::test]
async fn verified_chunks_go_in_order_to_standard_output_and_a_closed_pipe_ends_the_download() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    for size in [0, 40 * MIB + 5] {
        let path = file(&cluster, &format!("{size}.bin"), size, size)?;
        let id = cluster.publish(&path, &[]).await?;
        let output = cluster.run_client(&["get", "-o", "-", &id]).await?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == std::fs::read(&path)?, "{size}");
        if size == 0 {
            continue;
        }
        let mut client = cluster.client(&["get", "-o", "-", &id])?;
        let mut child = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut pipe = child.stdout.take().unwrap();
        let mut first = vec![0; 1000];
        pipe.read_exact(&mut first).await?;
        assert!(first == std::fs::read(&path)?[..1000]);
        drop(pipe);
        let output = finish(child).await?;
        assert_eq!(output.status.code(), Some(23), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[tokio::test]
async fn standard_output_takes_one_published_file_and_nothing_else() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    for (name, size) in [("a.bin", 1000), ("b.bin", 1001)] {
        cluster.publish(&file(&cluster, name, size, size)?, &["--quorum", "1"]).await?;
    }
    let output = cluster.run_client(&["get", "-o", "-", "a.bin"]).await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == std::fs::read(cluster.path("a.bin"))?);
    for (args, why) in [
        (&["get", "-o", "-", "a.bin", "b.bin"][..], "one file"),
        (&["--json", "get", "-o", "-", "a.bin"], "--json"),
        (&["get", "-o", "-", "http://127.0.0.1:9/x"], "published files only"),
        (&["fetch", "-o", "-", "http://127.0.0.1:9/x", "http://127.0.0.1:9/y"], "one file"),
    ] {
        let output = cluster.run_client(args).await?;
        let printed = String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {printed}");
        assert!(printed.contains(why), "{args:?}: {printed}");
        assert!(!cluster.path("-").exists());
    }
    Ok(())
}

#[tokio::test]
async fn a_download_whose_reader_takes_nothing_can_be_interrupted() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let id = cluster.publish(&file(&cluster, "x.bin", 1, 4 * MIB)?, &["--quorum", "1"]).await?;
    let mut client = cluster.client(&["get", "-o", "-", &id])?;
    let mut child = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Once the first bytes are there, the pipe is soon full.
    let mut pipe = child.stdout.take().unwrap();
    pipe.read_exact(&mut [0; 1]).await?;
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).unwrap();
    kill_process(pid, Signal::INT)?;
    let output = finish(child).await?;
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test]
async fn downloads_and_uploads_keep_to_limit_rate() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu", "eu"])).await?;
    let path = file(&cluster, "x.bin", 1, 4 * MIB)?;
    let started = Instant::now();
    // Two copies of 4 MiB.
    let id = cluster.publish(&path, &["--limit-rate", "4M"]).await?;
    assert!(started.elapsed() >= Duration::from_millis(1800), "{:?}", started.elapsed());
    let output = cluster.run_client(&["--json", "get", "--limit-rate", "2M", "-o", "got.bin", &id]).await?;
    let seconds = event(&output, "done")?["report"]["elapsed"].as_f64().unwrap();
    assert!((1.8..10.0).contains(&seconds), "{seconds} s");
    // Files side by side share the limit.
    cluster.publish(&file(&cluster, "y.bin", 2, 4 * MIB)?, &[]).await?;
    std::fs::create_dir(cluster.path("both"))?;
    let started = Instant::now();
    let output = cluster.run_client(&["get", "--limit-rate", "4M", "-o", "both", "x.bin", "y.bin"]).await?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(started.elapsed() >= Duration::from_millis(1800), "{:?}", started.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_published_name_becomes_a_visible_file_and_a_local_name_never_reaches_the_terminal_raw() -> anyhow::Result<()>
{
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    for (size, published, local) in [(1000, ".bashrc", "bashrc"), (1001, "CON", "_CON"), (1002, "x.", "x")] {
        let path = file(&cluster, &format!("{size}.bin"), size, size)?;
        let id = cluster.publish(&path, &["--quorum", "1", "--name", published]).await?;
        let output = cluster.run_client(&["--json", "get", &id]).await?;
        let done = event(&output, "done")?;
        assert!(done["path"].as_str().unwrap().ends_with(&format!("/{local}")), "{done}");
        assert!(cluster.path(local).is_file() && !cluster.path(published).exists(), "{published}");
    }
    let wicked = "a\u{1b}[2J\u{9b}31m\rb\n.bin";
    let output = cluster.run_client(&["publish", wicked]).await?;
    assert!(!output.status.success());
    let shown = String::from_utf8(output.stderr)?;
    let is_raw = |c: char| c.is_control() && c != '\n';
    assert!(!shown.contains(is_raw) && shown.contains(r"\u{1b}"), "{shown:?}");
    Ok(())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn an_unrelated_file_of_the_same_name_is_repaired_only_if_the_published_file_is_named() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let path = file(&cluster, "a.bin", 1, 2 * MIB + 5)?;
    let right = std::fs::read(&path)?;
    let id = cluster.publish(&path, &["--quorum", "1"]).await?;
    let mut damaged = right.clone();
    damaged[0] ^= 1;
    for unrelated in [vec![7; right.len()], right[..right.len() - 1].to_vec(), b"notes".to_vec()] {
        std::fs::write(&path, &unrelated)?;
        let output = cluster.run_client(&["verify", "--repair", "a.bin"]).await?;
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("--id"), "{}", stderr(&output));
        assert!(std::fs::read(&path)? == unrelated, "nothing was changed");
    }
    let output = cluster.run_client(&["verify", "--repair", "a.bin", "--id", &id]).await?;
    assert!(output.status.success() && std::fs::read(&path)? == right, "{}", stderr(&output));
    std::fs::write(&path, &damaged)?;
    let output = cluster.run_client(&["verify", "--repair", "a.bin"]).await?;
    assert!(output.status.success() && std::fs::read(&path)? == right, "{}", stderr(&output));
    Ok(())
}
