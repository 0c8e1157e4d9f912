//! The info-server of a cluster, started again in other circumstances.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{
    ADMIN, Cluster,
    arguments::{replace_value, small_disk},
};
use crate::{
    port::free_port,
    power_cut::Recording,
    process::{Failing, Server, Surroundings},
};

impl Cluster {
    /// Starts the info-server again, on the data and at the address that it had.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_info(&mut self) -> anyhow::Result<()> {
        self.restart_info_failing(None).await
    }

    /// Restarts the info-server as [`Self::restart_info`] does, with system calls that fail from the start on.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_info_failing(&mut self, failing: Option<&Failing>) -> anyhow::Result<()> {
        let log = self.path("info-server.log");
        let (host, env) = (self.info_host.as_ref(), &*self.info_env);
        let surroundings = Surroundings { host, failing, env, ..Surroundings::default() };
        self.info = Some(Server::start_in(surroundings, "ddm-info-server", &self.info_args, &log).await?);
        Ok(())
    }

    /// Starts the info-server again with its system calls recorded in `trace`, see [`crate::power_cut`].
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_info_recorded(&mut self, trace: &Path) -> anyhow::Result<()> {
        let (before, log) = (Recording::words(trace)?, self.path("info-server.log"));
        let surroundings = Surroundings { before: &before, ..Surroundings::default() };
        self.info = Some(Server::start_in(surroundings, "ddm-info-server", &self.info_args, &log).await?);
        Ok(())
    }

    /// Starts a further info-server on another data folder and at another address.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_info_on(&self, data: &Path, log: &Path) -> anyhow::Result<Server> {
        let mut args = self.info_args.clone();
        replace_value(&mut args, "--data", &data.display().to_string());
        replace_value(&mut args, "--listen", "127.0.0.1:0");
        Server::start("ddm-info-server", &args, log).await
    }

    /// Starts the info-server again with its data copied to a disk of its own of so many MiB, which goes with the process; the path by
    /// which others reach the folder. Needs namespaces of users, as systems have them for containers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_info_on_small_disk(&mut self, mib: u32) -> anyhow::Result<PathBuf> {
        let (data, log) = (self.path("info-server"), self.path("info-server.log"));
        let before = small_disk(&data, mib);
        let surroundings = Surroundings { before: &before, ..Surroundings::default() };
        let started = Server::start_in(surroundings, "ddm-info-server", &self.info_args, &log).await?;
        let seen = format!("/proc/{}/root{}", started.pid()?.as_raw_nonzero(), data.display());
        self.info = Some(started);
        Ok(seen.into())
    }

    /// Starts the info-server on another folder of the cluster's and on another port; clients and the requests of the test go there
    /// from now on, and so do file servers behind the plan's proxy. Logs in anew.
    ///
    /// # Errors
    /// When it does not start, or does not know the admin.
    pub async fn start_info_elsewhere(&mut self, folder: &str) -> anyhow::Result<()> {
        let data = self.path(folder).display().to_string();
        replace_value(&mut self.info_args, "--data", &data);
        replace_value(&mut self.info_args, "--listen", &format!("127.0.0.1:{}", free_port()?));
        self.restart_info().await?;
        let info = self.info.as_ref().context("an info-server")?;
        self.info_url = format!("http://{}", info.address());
        if let Some(proxy) = &self.info_proxy {
            proxy.forward_to(info.address());
        }
        self.token = self.log_in(ADMIN).await?;
        match std::fs::remove_file(self.path("logins.json")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}
