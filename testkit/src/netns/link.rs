//! A cable that can be slow, lossy or dead, each way by itself.

use super::system::run;

/// Properties of a link. The default is a cable without faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// Bits a second, each way.
    pub rate: Option<u64>,
    /// Packets lost of a hundred, each way.
    pub loss_percent: u8,
    /// Nothing arrives that comes from outside.
    pub lose_incoming: bool,
    /// Nothing leaves.
    pub lose_outgoing: bool,
}

impl Shape {
    /// Drops all packets without a notice to either end.
    pub const CUT: Self = Self { rate: None, loss_percent: 0, lose_incoming: true, lose_outgoing: true };
}

/// One link.
#[derive(Debug)]
pub struct Link {
    /// Namespace and device by which bytes leave.
    out: (String, String),
    /// Namespace and device by which bytes come.
    into: (String, String),
    /// Chain of the rules, and their matches for incoming and outgoing packets.
    rules: String,
    incoming: [&'static str; 2],
    outgoing: [&'static str; 2],
}

impl Link {
    pub(super) fn of_zone(router: &str, switch: &str, port: &str) -> anyhow::Result<Self> {
        let own = |name: &str| name.to_owned();
        let link = Self {
            out: (own(router), own("wan")),
            into: (own(switch), own(port)),
            rules: own(router),
            incoming: ["-i", "wan"],
            outgoing: ["-o", "wan"],
        };
        link.prepare(&["FORWARD"])?;
        Ok(link)
    }

    pub(super) fn of_host(host: &str, router: &str, port: &str) -> anyhow::Result<Self> {
        let own = |name: &str| name.to_owned();
        let link = Self {
            out: (own(host), own("eth0")),
            into: (own(router), own(port)),
            rules: own(host),
            incoming: ["-i", "eth0"],
            outgoing: ["-o", "eth0"],
        };
        link.prepare(&["INPUT", "OUTPUT"])?;
        Ok(link)
    }

    fn prepare(&self, chains: &[&str]) -> anyhow::Result<()> {
        for (namespace, device) in [&self.out, &self.into] {
            // Packets as they are on a wire: a loss is not to cost 64 KiB at once.
            super::ip(&["-n", namespace, "link", "set", "dev", device, "gso_max_segs", "1"])?;
        }
        for chain in chains {
            for name in ["in", "out"] {
                let _ = run(&self.rules, "iptables", &["-N", name]);
            }
            if *chain != "OUTPUT" {
                let [flag, device] = self.incoming;
                run(&self.rules, "iptables", &["-A", chain, flag, device, "-j", "in"])?;
            }
            if *chain != "INPUT" {
                let [flag, device] = self.outgoing;
                run(&self.rules, "iptables", &["-A", chain, flag, device, "-j", "out"])?;
            }
        }
        Ok(())
    }

    /// Makes the link like this from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn set(&self, shape: Shape) -> anyhow::Result<()> {
        for (chain, dead) in [("in", shape.lose_incoming), ("out", shape.lose_outgoing)] {
            run(&self.rules, "iptables", &["-F", chain])?;
            if dead {
                run(&self.rules, "iptables", &["-A", chain, "-j", "DROP"])?;
            } else if shape.loss_percent > 0 {
                let probability = format!("{:.2}", f64::from(shape.loss_percent) / 100.0);
                let random = ["-m", "statistic", "--mode", "random", "--probability", &probability, "-j", "DROP"];
                run(&self.rules, "iptables", &[&["-A", chain], random.as_slice()].concat())?;
            }
        }
        for (namespace, device) in [&self.out, &self.into] {
            match shape.rate {
                Some(rate) => {
                    // A burst of at least what passes between two ticks of a slow kernel's clock.
                    let (rate, burst) = (format!("{rate}bit"), format!("{}", (rate / 8 / 100).max(16_384)));
                    let shaped = ["root", "tbf", "rate", &rate, "burst", &burst, "latency", "100ms"];
                    run(namespace, "tc", &[&["qdisc", "replace", "dev", device], shaped.as_slice()].concat())?;
                }
                // There is none to remove, mostly.
                None => drop(run(namespace, "tc", &["qdisc", "del", "dev", device, "root"])),
            }
        }
        Ok(())
    }

    /// A perfect cable again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn heal(&self) -> anyhow::Result<()> {
        self.set(Shape::default())
    }
}
