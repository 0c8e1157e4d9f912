//! Hosts with addresses of their own in zones, with a link between zones that can be shaped, counted, cut and healed.
//!
//! Each host and each zone's router is a network namespace of this machine; the routers meet at a switch, where the test itself
//! is connected too. Rates are `tc … tbf`, losses and cuts `iptables`. Names carry the process id of the test, and what a dead
//! test left behind is removed by the next one.
//!
//! ```text
//! host ─┐                                       ┌─ host
//! host ─┴─ router eu ══ link ══ switch ══ link ══ router us ─┴─ host        10.X.<zone>.<host>
//!                                 └─ the test, 10.X.0.254
//! ```

mod link;
mod system;

use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, bail};

pub use link::{Link, Shape};
use system::{exec, ip, run};

/// Leaves out, with a line that says so, all tests that need namespaces.
pub const SWITCH: &str = "DDM_TEST_NO_NETNS";
const MANUAL: &str = "this test needs network namespaces: run it as root (CAP_NET_ADMIN and CAP_SYS_ADMIN, in a container \
                      --privileged) with iproute2 and iptables installed, or leave such tests out with ./test --no-netns \
                      (DDM_TEST_NO_NETNS=1)";

/// Zones and the link between them. Dropping it ends what still runs there and removes it.
#[derive(Debug)]
pub struct Net {
    name: String,
    octet: u8,
    zones: Vec<Zone>,
}

#[derive(Debug)]
struct Zone {
    name: &'static str,
    /// Its part of the addresses, from 1.
    number: u8,
    router: String,
    link: Link,
    hosts: Mutex<Vec<String>>,
}

/// A machine with an address of its own. Its namespace lives as long as the [`Net`].
#[derive(Debug, Clone)]
pub struct Host {
    namespace: String,
    address: Ipv4Addr,
    /// Its own cable.
    pub link: Arc<Link>,
}

impl Host {
    /// Its address.
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The words before a command that is to run there; the process is the command's own.
    pub fn prefix(&self) -> [&OsStr; 4] {
        ["ip", "netns", "exec", self.namespace.as_str()].map(OsStr::new)
    }
}

impl Net {
    /// Makes zones without hosts. `None`, and a line that says so, when [`SWITCH`] leaves such tests out.
    ///
    /// # Errors
    /// When this machine does not allow it; the message says what to do.
    pub fn start(zones: &[&'static str]) -> anyhow::Result<Option<Arc<Self>>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if std::env::var_os(SWITCH).is_some_and(|switch| !switch.is_empty() && switch != "0") {
            eprintln!("left out: {SWITCH} is set");
            return Ok(None);
        }
        system::sweep().context(MANUAL)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut net = Self { name: system::own_name(count), octet: 0, zones: Vec::new() };
        net.make_switch(count).context(MANUAL)?;
        for zone in zones {
            net.make_zone(zone).with_context(|| format!("the zone {zone}")).context(MANUAL)?;
        }
        net.make_routes()?;
        Ok(Some(Arc::new(net)))
    }

    /// A further host in a zone.
    ///
    /// # Errors
    /// When there is no such zone, or no further address.
    pub fn host(&self, zone: &str) -> anyhow::Result<Host> {
        let zone = self.zone(zone)?;
        let mut hosts = zone.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let number = u8::try_from(hosts.len() + 2)?;
        let (namespace, port) = (format!("{}-{}-{number}", self.name, zone.number), format!("h{number}"));
        ip(&["netns", "add", &namespace])?;
        hosts.push(namespace.clone());
        ip(&["-n", &zone.router, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &namespace])?;
        ip(&["-n", &zone.router, "link", "set", &port, "master", "lan", "up"])?;
        let (address, gateway) = (self.address(zone.number, number), self.address(zone.number, 1));
        ip(&["-n", &namespace, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        for device in ["lo", "eth0"] {
            ip(&["-n", &namespace, "link", "set", device, "up"])?;
        }
        ip(&["-n", &namespace, "route", "add", "default", "via", &gateway.to_string()])?;
        let link = Arc::new(Link::of_host(&namespace, &zone.router, &port)?);
        Ok(Host { namespace, address, link })
    }

    /// Router that connects a zone with all others, and with the test.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn link(&self, zone: &str) -> anyhow::Result<&Link> {
        Ok(&self.zone(zone)?.link)
    }

    /// Bytes that arrived in one zone from another, with all headers.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn bytes(&self, from: &str, to: &str) -> anyhow::Result<u64> {
        let (from, to) = (self.zone(from)?.number, self.zone(to)?);
        let source = format!("{}/24", self.address(from, 0));
        let text = exec(&to.router, &["iptables", "-nvxL", "count"])?;
        let line = text.lines().find(|line| line.split_whitespace().any(|word| word == source));
        let bytes = line.and_then(|line| line.split_whitespace().nth(1)).context("a counter")?;
        Ok(bytes.parse()?)
    }

    /// Connections that hosts of a zone tried to open to other zones, or to the test, whether or not they stood. A packet that
    /// is sent again counts once.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn tries(&self, zone: &str) -> anyhow::Result<u64> {
        let text = exec(&self.zone(zone)?.router, &["iptables", "-nvxL", "tries"])?;
        let line = text.lines().find(|line| line.contains("RETURN")).context("a counter")?;
        Ok(line.split_whitespace().next().context("a counter")?.parse()?)
    }

    /// The names of the zones.
    pub fn zones(&self) -> impl Iterator<Item = &'static str> {
        self.zones.iter().map(|zone| zone.name)
    }

    fn zone(&self, name: &str) -> anyhow::Result<&Zone> {
        self.zones.iter().find(|zone| zone.name == name).with_context(|| format!("no zone {name}"))
    }

    const fn address(&self, zone: u8, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.octet, zone, host)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    /// The switch, and the test's own cable to it; its name in the system's namespace is the net's.
    fn make_switch(&mut self, count: u32) -> anyhow::Result<()> {
        let (switch, cable) = (self.switch(), self.name.replace('-', ""));
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "lan", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "lan", "up"])?;
        ip(&["link", "add", &cable, "type", "veth", "peer", "name", "test", "netns", &switch])?;
        ip(&["-n", &switch, "link", "set", "test", "master", "lan", "up"])?;
        ip(&["link", "set", &cable, "up"])?;
        for attempt in 0..64 {
            // The link that has the route has the addresses; the route goes with the cable.
            self.octet = u8::try_from(64 + (std::process::id() + count * 7 + attempt) % 180)?;
            let network = format!("{}/16", self.address(0, 0));
            if ip(&["route", "add", &network, "dev", &cable, "metric", "4096"]).is_ok() {
                return ip(&["address", "add", &format!("{}/24", self.address(0, 254)), "dev", &cable]).map(drop);
            }
        }
        bail!("no free network within 10.64.0.0 to 10.243.0.0")
    }

    fn make_zone(&mut self, name: &'static str) -> anyhow::Result<()> {
        let number = u8::try_from(self.zones.len() + 1)?;
        let (switch, router, port) = (self.switch(), format!("{}-{number}", self.name), format!("z{number}"));
        ip(&["netns", "add", &router])?;
        let setting = exec(&router, &["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        setting.or_else(|_| exec(&router, &["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]))?;
        ip(&["-n", &router, "link", "add", "lan", "type", "bridge"])?;
        ip(&["-n", &router, "link", "add", "wan", "type", "veth", "peer", "name", &port, "netns", &switch])?;
        ip(&["-n", &switch, "link", "set", &port, "master", "lan", "up"])?;
        for (device, address) in [("lan", self.address(number, 1)), ("wan", self.address(0, number))] {
            ip(&["-n", &router, "address", "add", &format!("{address}/24"), "dev", device])?;
            ip(&["-n", &router, "link", "set", device, "up"])?;
        }
        ip(&["route", "add", &format!("{}/24", self.address(number, 0)), "via", &self.address(0, number).to_string()])?;
        let link = Link::of_zone(&router, &switch, &port)?;
        self.zones.push(Zone { name, number, router, link, hosts: Mutex::default() });
        Ok(())
    }

    /// Adds the routes between zones; packets are counted where they arrive.
    fn make_routes(&self) -> anyhow::Result<()> {
        for here in &self.zones {
            run(&here.router, "iptables", &["-N", "count"])?;
            run(&here.router, "iptables", &["-I", "FORWARD", "-i", "wan", "-j", "count"])?;
            run(&here.router, "iptables", &["-N", "tries"])?;
            run(&here.router, "iptables", &["-A", "tries", "-j", "RETURN"])?;
            // Of each pair of an address and a port the first one alone: what is lost is sent again by the system.
            let first = "-m hashlimit --hashlimit-mode srcip,srcport --hashlimit-upto 1/minute --hashlimit-burst 1";
            let rule = format!("-I FORWARD -o wan -p tcp --syn {first} --hashlimit-name tries -j tries");
            run(&here.router, "iptables", &rule.split(' ').collect::<Vec<_>>())?;
            for there in self.zones.iter().filter(|zone| zone.number != here.number) {
                let (network, via) = (format!("{}/24", self.address(there.number, 0)), self.address(0, there.number));
                ip(&["-n", &here.router, "route", "add", &network, "via", &via.to_string()])?;
                run(&here.router, "iptables", &["-A", "count", "-s", &network])?;
            }
        }
        Ok(())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if let Err(error) = system::remove(&self.name) {
            eprintln!("cannot remove the network {}: {error:#}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, net::TcpListener, time::Duration};

    use super::*;

    /// Returns true if a host gets an answer from the test's listener.
    fn reaches(host: &Host, port: u16, net: &Net) -> bool {
        let to = format!("exec 3<>/dev/tcp/{}/{port} && read -r -u 3", net.address(0, 254));
        let [program, rest @ ..] = host.prefix();
        let mut command = std::process::Command::new(program);
        command.args(rest).args(["timeout", "2", "bash", "-c", &to]);
        command.stderr(std::process::Stdio::null()).status().is_ok_and(|status| status.success())
    }

    #[test]
    fn a_zone_is_reached_counted_cut_and_healed_and_leaves_nothing_behind() -> anyhow::Result<()> {
        let Some(net) = Net::start(&["eu", "us"])? else { return Ok(()) };
        let (near, far) = (net.host("eu")?, net.host("us")?);
        let listener = TcpListener::bind((net.address(0, 254), 0))?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream: std::net::TcpStream = stream;
                let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
                let _ = stream.write_all(b"hello\n");
            }
        });
        assert!(reaches(&near, port, &net) && reaches(&far, port, &net));
        assert_eq!(net.bytes("eu", "us")?, 0);
        let target = far.address().to_string();
        let ping = || exec(&near.namespace, &["bash", "-c", &format!("echo > /dev/udp/{target}/9")]);
        ping()?;
        assert!(net.bytes("eu", "us")? > 0);
        let tries = net.tries("us")?;
        net.link("us")?.set(Shape::CUT)?;
        assert!(reaches(&near, port, &net) && !reaches(&far, port, &net));
        assert_eq!(net.tries("us")?, tries + 1);
        net.link("us")?.set(Shape { rate: Some(1_000_000), loss_percent: 1, ..Shape::default() })?;
        far.link.set(Shape { lose_incoming: true, ..Shape::default() })?;
        assert!(!reaches(&far, port, &net));
        far.link.set(Shape::default())?;
        net.link("us")?.set(Shape::default())?;
        assert!(reaches(&far, port, &net));
        let name = net.name.clone();
        drop(net);
        assert!(!ip(&["netns", "list"])?.contains(&name));
        Ok(())
    }
}
