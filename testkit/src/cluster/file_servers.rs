//! File servers of a cluster: started, taken away, started again.

use std::path::Path;

use anyhow::Context as _;

use super::{
    Cluster, FileServer, Plan, STEP_TIMEOUT,
    arguments::{replace_value, small_disk, strings},
    listen_address,
};
use crate::{
    power_cut::Recording,
    process::{Failing, Server, Surroundings, eventually},
    proxy::Proxy,
};

impl Cluster {
    /// Starts one more file server and waits until it is listed.
    ///
    /// # Errors
    /// When it does not start or is not listed in time.
    pub async fn add_server(&mut self, zone: &str, plan: &Plan) -> anyhow::Result<()> {
        let n = self.servers.len();
        let (data, log) = (self.path(&format!("file-server-{n}")), self.path(&format!("file-server-{n}.log")));
        let secret = self.path("info-server/join-secret");
        let host = plan.net.as_ref().map(|net| net.host(zone)).transpose()?;
        let info =
            self.info_proxy.as_ref().map_or(self.info_url.clone(), |proxy| format!("http://{}", proxy.address()));
        let mut args =
            strings(&["--data", &data.display().to_string(), "--listen", &listen_address(plan)?, "--zone", zone]);
        args.extend(strings(&["--info", &info, "--join-secret-file", &secret.display().to_string()]));
        if host.is_some() {
            args.extend(strings(&["--public-url", "auto"]));
        }
        let amqp = plan.file_server_amqp.as_ref().or(plan.amqp.as_ref());
        args.extend(amqp.iter().flat_map(|url| ["--amqp".to_owned(), (*url).clone()]));
        args.extend(plan.file_server_args.clone());
        let proxy = if plan.proxied { Some(Proxy::start().await?) } else { None };
        if let Some(proxy) = &proxy {
            args.extend(["--public-url".to_owned(), format!("http://{}", proxy.address())]);
        }
        let known = self.server_ids().await?;
        let env = plan.file_server_env.clone();
        let surroundings = Surroundings { host: host.as_ref(), env: &env, ..Surroundings::default() };
        let process = Server::start_in(surroundings, "ddm-file-server", &args, &log).await?;
        if let Some(proxy) = &proxy {
            proxy.forward_to(process.address());
        }
        let fresh = async || Ok(self.server_ids().await?.into_iter().find(|id| !known.contains(id)));
        let id = eventually("the file server is listed", STEP_TIMEOUT, fresh).await?;
        self.servers.push(FileServer { process: Some(process), proxy, id, host, args, env, log });
        Ok(())
    }

    /// The ids of the live file servers.
    ///
    /// # Errors
    /// When the info-server does not say.
    pub async fn server_ids(&self) -> anyhow::Result<Vec<String>> {
        let list = self.get("/v1/servers").await?;
        let servers = list["servers"].as_array().context("a list of servers")?;
        Ok(servers.iter().filter_map(|server| server["id"].as_str()).map(str::to_owned).collect())
    }

    /// Takes a file server's process away from the cluster, to be killed or stopped.
    ///
    /// # Errors
    /// When it was taken already.
    pub fn take_server(&mut self, n: usize) -> anyhow::Result<Server> {
        self.servers.get_mut(n).and_then(|server| server.process.take()).context("no such process")
    }

    /// Starts a file server again, on the data and at the address that it had.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_server(&mut self, n: usize) -> anyhow::Result<()> {
        self.restart_server_failing(n, None).await
    }

    /// Restarts a file server as [`Self::restart_server`] does, with system calls that fail from the start on.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_server_failing(&mut self, n: usize, failing: Option<&Failing>) -> anyhow::Result<()> {
        let server = self.servers.get_mut(n).context("no such file server")?;
        let surroundings = Surroundings { host: server.host.as_ref(), failing, env: &server.env, before: &[] };
        let started = Server::start_in(surroundings, "ddm-file-server", &server.args, &server.log).await?;
        server.process = Some(started);
        Ok(())
    }

    /// Starts a file server again with its system calls recorded in `trace`, see [`crate::power_cut`].
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_server_recorded(&mut self, n: usize, trace: &Path) -> anyhow::Result<()> {
        let before = Recording::words(trace)?;
        let server = self.servers.get_mut(n).context("no such file server")?;
        let surroundings = Surroundings { before: &before, env: &server.env, ..Surroundings::default() };
        let started = Server::start_in(surroundings, "ddm-file-server", &server.args, &server.log).await?;
        server.process = Some(started);
        Ok(())
    }

    /// Starts a file server, which must not run, at its address on another data folder.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_server_on(&self, n: usize, data: &Path, log: &Path) -> anyhow::Result<Server> {
        let mut args = self.servers.get(n).context("no such file server")?.args.clone();
        replace_value(&mut args, "--data", &data.display().to_string());
        Server::start("ddm-file-server", &args, log).await
    }

    /// Gives a file server another value for one of its arguments, from its next start on.
    ///
    /// # Errors
    /// When there is no such server, or it has no such argument.
    pub fn change_server(&mut self, n: usize, flag: &str, value: &str) -> anyhow::Result<()> {
        let server = self.servers.get_mut(n).context("no such file server")?;
        anyhow::ensure!(server.args.iter().any(|arg| arg == flag), "it has no {flag}");
        replace_value(&mut server.args, flag, value);
        Ok(())
    }

    /// Starts a file server again with its data copied to a disk of its own of so many MiB, which goes with the process. Needs
    /// namespaces of users, as systems have them for containers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_server_on_small_disk(&mut self, n: usize, mib: u32) -> anyhow::Result<()> {
        let before = small_disk(&self.path(&format!("file-server-{n}")), mib);
        let server = self.servers.get_mut(n).context("no such file server")?;
        let surroundings = Surroundings { before: &before, env: &server.env, ..Surroundings::default() };
        let started = Server::start_in(surroundings, "ddm-file-server", &server.args, &server.log).await?;
        server.process = Some(started);
        Ok(())
    }
}
