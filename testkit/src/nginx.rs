//! A real nginx as the origin of URLs: ranges, strong tags, TLS under a certificate authority of the test's own, and a log of who
//! asked for what over which connection.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::{net::TcpStream, process::Child};

use crate::{
    port::free_port,
    process::{eventually, tool},
};

/// Time limit until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A running nginx; dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    // Its one process: with a master, workers would outlive a kill.
    _process: Child,
    port: u16,
    tls_port: u16,
    folder: TempDir,
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// The connection's number.
    pub connection: u64,
    /// Begin and end, in seconds.
    pub time: (f64, f64),
    /// The status.
    pub status: u16,
    /// Bytes of the body that were sent.
    pub bytes: u64,
    /// The value of `Range`, or `-`.
    pub range: String,
}

impl Nginx {
    /// Serves the files that are put into [`Self::root`]; `more` goes into its `server` block.
    ///
    /// # Errors
    /// When it does not listen in time; the message holds its log.
    pub async fn start(more: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        certify(folder.path()).await?;
        Self::start_in(folder, more).await
    }

    /// Serves like [`Self::start`], with a certificate that signed itself, which is that of an authority: so `openssl req -x509`
    /// makes them.
    ///
    /// # Errors
    /// See [`Self::start`].
    pub async fn start_self_signed(more: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        self_signed(folder.path()).await?;
        std::fs::copy(folder.path().join("leaf.pem"), folder.path().join("ca.pem"))?;
        Self::start_in(folder, more).await
    }

    async fn start_in(folder: TempDir, more: &str) -> anyhow::Result<Self> {
        std::fs::create_dir(folder.path().join("root"))?;
        let (port, tls_port) = (free_port()?, free_port()?);
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, settings(folder.path(), port, tls_port, more))?;
        let log = std::fs::File::create(folder.path().join("error.log"))?;
        let mut command = tool("/usr/sbin/nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(&config).arg("-e").arg(folder.path().join("error.log"));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn()?;
        let nginx = Self { _process: process, port, tls_port, folder };
        let listens = async || Ok(TcpStream::connect(("127.0.0.1", tls_port)).await.ok());
        let started = eventually("nginx listens", START_TIMEOUT, listens).await;
        started.with_context(|| std::fs::read_to_string(nginx.folder.path().join("error.log")).unwrap_or_default())?;
        Ok(nginx)
    }

    /// The folder of what it serves.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The address of a path, in the clear.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// The address of a path, over TLS.
    pub fn secure_url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.tls_port)
    }

    /// Returns the addresses it listens on: plaintext, and TLS.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (at(self.port), at(self.tls_port))
    }

    /// The certificate of the authority that signed its own.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Makes a certificate for a client, signed by [`Self::authority`], and returns the file of it and its key. A server with
    /// `ssl_client_certificate ca.pem; ssl_verify_client on;` demands one.
    ///
    /// # Errors
    /// When openssl fails.
    pub async fn client_certificate(&self) -> anyhow::Result<PathBuf> {
        let folder = self.folder.path();
        let key =
            "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout client.key -out client.csr -subj /CN=user";
        openssl(folder, &["req"].into_iter().chain(key.split(' ')).collect::<Vec<_>>()).await?;
        std::fs::write(folder.join("usage"), "extendedKeyUsage=clientAuth\n")?;
        let sign =
            "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out client.crt -days 2 -extfile usage";
        openssl(folder, &sign.split(' ').collect::<Vec<_>>()).await?;
        let both = [std::fs::read(folder.join("client.crt"))?, std::fs::read(folder.join("client.key"))?].concat();
        let path = folder.join("client.pem");
        crate::process::write_private(&path, &both)?;
        Ok(path)
    }

    /// All requests that have ended.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn served(&self) -> anyhow::Result<Vec<Served>> {
        let text = std::fs::read_to_string(self.folder.path().join("access.log"))?;
        text.lines().map(|line| served(line).with_context(|| line.to_owned())).collect()
    }
}

fn served(line: &str) -> Option<Served> {
    let mut fields = line.split('|');
    let connection = fields.next()?.parse().ok()?;
    let end: f64 = fields.next()?.parse().ok()?;
    let took: f64 = fields.next()?.parse().ok()?;
    let status = fields.next()?.parse().ok()?;
    let bytes = fields.next()?.parse().ok()?;
    Some(Served { connection, time: (end - took, end), status, bytes, range: fields.next()?.to_owned() })
}

fn settings(folder: &Path, port: u16, tls_port: u16, more: &str) -> String {
    let folder = folder.display();
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"));
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n{}\
         log_format asked '$connection|$msec|$request_time|$status|$body_bytes_sent|$http_range';\n\
         access_log {folder}/access.log asked;\n\
         keepalive_requests 100000;\n\
         large_client_header_buffers 4 16k;\n\
         server {{\n\
         listen 127.0.0.1:{port};\nlisten 127.0.0.1:{tls_port} ssl;\nlisten 127.0.0.2:{tls_port} ssl;\n\
         ssl_certificate {folder}/leaf.pem;\nssl_certificate_key {folder}/leaf.key;\n\
         root {folder}/root;\n{more}\n}}\n}}\n",
        temporary.concat()
    )
}

/// Makes `leaf.key` and `leaf.pem`, a certificate for `localhost` that signed itself.
///
/// # Errors
/// When openssl fails.
pub async fn self_signed(folder: &Path) -> anyhow::Result<()> {
    let own = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout leaf.key -out leaf.pem -days 2 \
               -subj /CN=localhost -addext subjectAltName=DNS:localhost";
    openssl(folder, &own.split_whitespace().collect::<Vec<_>>()).await
}

/// Makes an authority and a certificate for `localhost` and `origin.test`.
async fn certify(folder: &Path) -> anyhow::Result<()> {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    openssl(
        folder,
        &[&["req", "-x509"], &key[..], &["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=tests", "-days", "2"]]
            .concat(),
    )
    .await?;
    openssl(
        folder,
        &[&["req"], &key[..], &["-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=localhost"]].concat(),
    )
    .await?;
    std::fs::write(
        folder.join("names"),
        "subjectAltName=DNS:localhost,DNS:origin.test,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
    )?;
    let sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 -extfile names";
    openssl(folder, &sign.split(' ').collect::<Vec<_>>()).await
}

async fn openssl(folder: &Path, args: &[&str]) -> anyhow::Result<()> {
    let output = tool("openssl").args(args).current_dir(folder).output().await.context("openssl")?;
    ensure!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
