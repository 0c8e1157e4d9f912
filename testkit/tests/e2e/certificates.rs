//! Servers whose certificates no authority of the system signed.

use ddm_testkit::{
    cluster::{Cluster, Plan, finish},
    nginx::Nginx,
    process::{command, write_private},
};

use crate::content::MIB;

/// Runs the client against the info-server at `through`. Returns its exit status, and what it said.
async fn client(cluster: &Cluster, through: &str, args: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let logins = cluster.path("logins-by-tls.json");
    let kept = serde_json::json!({
        through: { "email": "x@y.z", "token": cluster.token, "expires_at": "2100-01-01T00:00:00Z" },
    });
    write_private(&logins, kept.to_string().as_bytes())?;
    let mut client = command("ddm-client")?;
    client.current_dir(cluster.path("")).env("HOME", cluster.path("")).arg("--session-file").arg(&logins);
    client.args(["--info", through]).args(args);
    let piped = client.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn()?;
    let output = finish(piped).await?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((output.status.code(), said))
}

#[tokio::test]
async fn servers_with_certificates_of_their_own_are_reached_with_the_file_that_names_them() -> anyhow::Result<()> {
    let cluster = Cluster::start(&Plan::zones(&["eu"])).await?;
    let content = crate::content::bytes(5, 3 * MIB);
    std::fs::write(cluster.path("published.bin"), &content)?;
    cluster.run_client(&["publish", "published.bin", "--quorum", "1"]).await?;
    let pass = format!("location / {{ proxy_pass {}; }}", cluster.info_url());
    let (signed, own) = (Nginx::start(&pass).await?, Nginx::start_self_signed(&pass).await?);
    let stranger = Nginx::start_self_signed("").await?;
    for server in [&signed, &own] {
        let through = server.secure_url("");
        let through = through.trim_end_matches('/');
        let authority = server.authority().display().to_string();
        let (exit, said) = client(&cluster, through, &["list"]).await?;
        assert!(exit == Some(1) && said.contains("certificate") && said.contains("--cacert"), "{said}");
        let other = stranger.authority().display().to_string();
        let (exit, said) = client(&cluster, through, &["--cacert", &other, "list"]).await?;
        assert!(exit == Some(1) && said.contains("certificate"), "another self-signed certificate: {said}");
        let by_address = through.replace("localhost", "127.0.0.2");
        let (exit, said) = client(&cluster, &by_address, &["--cacert", &authority, "list"]).await?;
        assert_eq!(exit, Some(1), "another name than that of the certificate: {said}");
        let args = ["--cacert", &authority, "get", "published.bin", "-o", "got.bin", "-f"];
        let (exit, said) = client(&cluster, through, &args).await?;
        assert!(exit == Some(0) && !said.contains("ERROR"), "{said}");
        assert!(std::fs::read(cluster.path("got.bin"))? == content);
        let config = cluster.path("client.toml").display().to_string();
        write_private(config.as_ref(), format!("cacert = {authority:?}\n").as_bytes())?;
        let (exit, said) = client(&cluster, through, &["--config", &config, "list"]).await?;
        assert!(exit == Some(0) && said.contains("published.bin") && !said.contains("ERROR"), "{said}");
    }
    let (exit, said) = client(&cluster, &own.secure_url(""), &["--cacert", "absent.pem", "list"]).await?;
    assert!(exit == Some(1) && said.contains("--cacert: absent.pem: "), "{said}");
    Ok(())
}
