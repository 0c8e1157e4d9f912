//! Servers whose certificates no authority of the system signed.

use std::path::{Path, PathBuf};

use ddm_testkit::{
    cluster::{Cluster, Plan, STEP_TIMEOUT, finish},
    nginx::Nginx,
    port::free_port,
    process::{Server, Surroundings, command, eventually, write_private},
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
        assert!(exit == Some(1) && said.contains("certificate"), "another name than that of the certificate: {said}");
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

/// Starts a file server of its own folder that reaches the info-server at `info`.
async fn file_server(
    cluster: &Cluster,
    name: &str,
    info: &str,
    more: &[&str],
    env: &[(String, String)],
) -> anyhow::Result<Server> {
    let (data, secret) = (cluster.path(name).display().to_string(), cluster.path("info-server/join-secret"));
    let secret = secret.display().to_string();
    let args = ["--data", &data, "--info", info, "--join-secret-file", &secret, "--zone", "eu"];
    let surroundings = Surroundings { env, ..Surroundings::default() };
    let log = cluster.path(&format!("{name}.log"));
    Server::start_in(surroundings, "ddm-file-server", &[&args, more].concat(), &log).await
}

/// Returns the place of a complete file in a file server's folder.
fn place(data: &Path, id: &str) -> PathBuf {
    data.join("files").join(&id[id.len() - 2..]).join(id)
}

#[tokio::test]
async fn file_servers_reach_servers_of_a_private_authority_with_the_file_that_names_it() -> anyhow::Result<()> {
    let port = free_port()?;
    let source =
        Nginx::start(&format!("location / {{ client_max_body_size 0; proxy_pass http://127.0.0.1:{port}; }}")).await?;
    // The info-server checks the public address of the file server.
    let info_env = vec![("SSL_CERT_FILE".to_owned(), source.authority().display().to_string())];
    let cluster = Cluster::start(&Plan { info_env, ..Plan::default() }).await?;
    let front = Nginx::start(&format!("location / {{ proxy_pass {}; }}", cluster.info_url())).await?;
    let (info, authorities) = (front.secure_url(""), cluster.path("authorities.pem").display().to_string());
    std::fs::write(&authorities, [std::fs::read(front.authority())?, std::fs::read(source.authority())?].concat())?;
    let (listen, public) = (format!("127.0.0.1:{port}"), source.secure_url(""));
    let behind = ["--listen", &listen, "--public-url", public.trim_end_matches('/')];

    let absent = file_server(&cluster, "absent", &info, &["--cacert", "absent.pem"], &[]).await.unwrap_err();
    assert!(format!("{absent:#}").contains("--cacert: absent.pem: "), "{absent:#}");
    assert!(!cluster.path("absent").exists(), "it looks at its settings first");
    let refused = file_server(&cluster, "file-server-0", &info, &behind, &[]).await?;
    let said = async || Ok(Some(refused.log()?).filter(|log| log.contains("ERROR") && log.contains("--cacert FILE")));
    eventually("it names the setting", STEP_TIMEOUT, said).await?;
    refused.kill().await?;

    let env = [("DDM_CACERT".to_owned(), authorities.clone())];
    let _first = file_server(&cluster, "file-server-0", &info, &behind, &env).await?;
    let listed = async || Ok(cluster.server_ids().await?.pop());
    eventually("it is registered", STEP_TIMEOUT, listed).await?;
    std::fs::write(cluster.path("published.bin"), crate::content::bytes(6, 3 * MIB))?;
    let args = ["--cacert", &authorities, "--quorum", "1", "--replicas", "2"];
    let id = cluster.publish(&cluster.path("published.bin"), &args).await?;

    let config = cluster.path("file-server-1.toml").display().to_string();
    std::fs::write(&config, format!("cacert = {authorities:?}\n"))?;
    let _second =
        file_server(&cluster, "file-server-1", &info, &["--listen", "127.0.0.1:0", "--config", &config], &[]).await?;
    let copied = async || Ok(std::fs::read(place(&cluster.path("file-server-1"), &id)).ok());
    let copy = eventually("it fetches a replica from the first", STEP_TIMEOUT, copied).await?;
    assert!(copy == std::fs::read(cluster.path("published.bin"))?);
    Ok(())
}
