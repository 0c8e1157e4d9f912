//! An info-server behind a proxy that collects answers before it passes them on.

use std::time::{Duration, Instant};

use ddm_testkit::{cluster::Cluster, nginx::Nginx};

use super::fixture::{SIZE, near};
use crate::content::{bytes, event};

/// Time that a job may take through the proxy: one that is followed by its reports alone never ends.
const JOB_TIMEOUT: Duration = Duration::from_secs(45);

#[tokio::test]
async fn a_url_is_fetched_through_a_proxy_that_holds_back_streams() -> anyhow::Result<()> {
    let cluster = Cluster::start(&near(&["eu", "eu"])).await?;
    let origin = Nginx::start("limit_rate 4m;").await?;
    for (name, further) in [("plain", ""), ("stubborn", "proxy_ignore_headers X-Accel-Buffering;")] {
        let pass = format!("location / {{ proxy_pass {}; {further} }}", cluster.info_url());
        let proxy = Nginx::start(&pass).await?;
        let address = proxy.url("");
        let through = address.trim_end_matches('/');
        let logins = cluster.path(&format!("{name}.json"));
        let kept = serde_json::json!({
            through: { "email": "x@y.z", "token": cluster.token, "expires_at": "2100-01-01T00:00:00Z" },
        });
        ddm_testkit::process::write_private(&logins, kept.to_string().as_bytes())?;
        let file = format!("{name}.bin");
        std::fs::write(origin.root().join(&file), bytes(8, SIZE))?;
        let logins = logins.display().to_string();
        let url = origin.url(&file);
        let begun = Instant::now();
        let args = ["--info", through, "--session-file", &logins, "--json", "--wait", "60s", &url];
        let output =
            tokio::time::timeout(JOB_TIMEOUT, ddm_testkit::cluster::finish(client(&cluster, &args)?)).await??;
        let done = event(&output, "done").unwrap();
        assert!(std::fs::read(cluster.path(&file))? == bytes(8, SIZE), "{name}: {done}");
        assert!(done["fetched"]["job"].is_object(), "{name}: fetched jointly: {done}");
        println!("{name}: {:?}", begun.elapsed());
    }
    Ok(())
}

fn client(cluster: &Cluster, args: &[&str]) -> anyhow::Result<tokio::process::Child> {
    let mut client = ddm_testkit::process::command("ddm-client")?;
    client.current_dir(cluster.path("")).env("HOME", cluster.path("")).args(args);
    Ok(client.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?)
}
