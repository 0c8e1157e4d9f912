//! Ports that stay free while what listens on them is stopped.

use std::{
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener},
    },
    sync::Mutex,
};

use anyhow::bail;
use rand::RngExt as _;

/// Names in the abstract namespace, one for each port of this process: tests run in processes of their own, side by side.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// Returns a port on which nothing listens, which is no other test's as long as this process lives. It is below the range that the system gives
/// to outgoing connections.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    for _ in 0..1000 {
        let port = rand::rng().random_range(10_000..32_000);
        let name = SocketAddr::from_abstract_name(format!("ddm-test-port-{port}"))?;
        let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            CLAIMS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(claim);
            return Ok(port);
        }
    }
    bail!("no free port below 32000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_and_to_no_one_else_while_nothing_listens_on_it() {
        let mut ports: Vec<u16> = (0..200).map(|_| free_port().unwrap()).collect();
        for port in &ports {
            let name = SocketAddr::from_abstract_name(format!("ddm-test-port-{port}")).unwrap();
            assert!(UnixListener::bind_addr(&name).is_err(), "{port} is claimed");
            drop(TcpListener::bind(("127.0.0.1", *port)).unwrap());
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 200);
    }
}
