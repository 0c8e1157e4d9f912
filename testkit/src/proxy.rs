//! A TCP proxy between a server and its clients that does to either direction what bad networks do, as told while it runs.
//!
//! Each direction has a [`LinkShape`]: latency, rate, flipped bits, repeated blocks, an end after so many bytes, silence. They
//! combine, and a change reaches connections that are open. Where bits flip depends on the seed and the position alone.

mod conditions;
mod pipe;

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use conditions::{Control, NetworkConditions, lock};
pub use conditions::{Direction, LinkShape};
use pipe::{End, Piping};

/// Fault that the proxy injects into the server's bytes: the usual single ones, for [`Proxy::spoil`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Flips one bit in every so many bytes.
    Flip(NonZeroU64),
    /// Resets the connection (RST) after so many bytes.
    Reset(u64),
    /// Closes the connection (FIN) after so many bytes, short of the promised length.
    Truncate(u64),
    /// Passes so many bytes and then none, holding the connection.
    Stall(u64),
    /// Accepts nothing: new connections are reset, running ones too.
    Refuse,
}

/// The proxy; dropping it ends every connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: Arc<Control>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port; the seed is that of the run.
    ///
    /// # Errors
    /// When no port is to be had.
    pub async fn start() -> std::io::Result<Self> {
        Self::seeded(crate::seed()).await
    }

    /// Listens on a free port of the loopback; `seed` decides where bits flip.
    ///
    /// # Errors
    /// When no port is to be had.
    pub async fn seeded(seed: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let control = Arc::new(Control {
            seed,
            target: Mutex::default(),
            conditions: watch::Sender::new(NetworkConditions::default()),
            up_free_at: Mutex::default(),
            down_free_at: Mutex::default(),
            accepted: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
        });
        let mut task = JoinSet::new();
        task.spawn(accept(listener, control.clone()));
        Ok(Self { address, control, _task: task })
    }

    /// Returns the address that clients connect to.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the target of the clients' connections. Without a target they are reset.
    pub fn forward_to(&self, target: SocketAddr) {
        *lock(&self.control.target) = Some(target);
    }

    /// Changes one direction from now on, in open connections too; what else is set for it stays.
    pub fn shape(&self, direction: Direction, change: impl FnOnce(&mut LinkShape)) {
        self.control.conditions.send_modify(|conditions| match direction {
            Direction::Up => change(&mut conditions.up),
            Direction::Down => change(&mut conditions.down),
        });
    }

    /// A round trip takes so much longer.
    pub fn round_trip(&self, time: Duration) {
        for direction in [Direction::Up, Direction::Down] {
            self.shape(direction, |line| line.latency = time / 2);
        }
    }

    /// Resets every connection and refuses new ones, or ends doing so.
    pub fn cut(&self, cut: bool) {
        self.control.conditions.send_modify(|conditions| conditions.cut = cut);
    }

    /// Everything passes as it is again.
    pub fn heal(&self) {
        self.control.conditions.send_replace(NetworkConditions::default());
    }

    /// Spoils the server's bytes in this one way from now on; latency and rate stay.
    pub fn spoil(&self, fault: Fault) {
        self.control.conditions.send_modify(|conditions| {
            let LinkShape { latency, rate, .. } = conditions.down;
            conditions.cut = fault == Fault::Refuse;
            conditions.down = LinkShape { latency, rate, ..LinkShape::default() };
            match fault {
                Fault::None | Fault::Refuse => {}
                Fault::Flip(every) => conditions.down.flip = Some(every),
                Fault::Reset(after) => conditions.down.reset = Some(after),
                Fault::Truncate(after) => conditions.down.truncate = Some(after),
                Fault::Stall(after) => conditions.down.hole = Some(after),
            }
        });
    }

    /// Lets through so many of the server's bytes a second, all connections together; `None` for no limit.
    pub fn limit(&self, bytes_per_second: Option<u32>) {
        self.shape(Direction::Down, |line| line.rate = bytes_per_second);
    }

    /// Connections that clients opened so far, refused ones among them.
    pub fn accepted(&self) -> u64 {
        self.control.accepted.load(Ordering::Relaxed)
    }

    /// Counts the most connections anew, from those that are open now.
    pub fn count_anew(&self) {
        self.control.most_open.store(self.control.open.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The most connections that were open at once.
    pub fn most_open(&self) -> usize {
        self.control.most_open.load(Ordering::Relaxed)
    }

    /// Bytes of the server that were let through, heads included.
    pub fn passed(&self) -> u64 {
        self.control.passed.load(Ordering::Relaxed)
    }
}

/// Counts a connection for as long as it lives.
struct Open<'a>(&'a Control);

impl<'a> Open<'a> {
    fn new(control: &'a Control) -> Self {
        let now = control.open.fetch_add(1, Ordering::Relaxed) + 1;
        control.most_open.fetch_max(now, Ordering::Relaxed);
        Self(control)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        control.accepted.fetch_add(1, Ordering::Relaxed);
        connections.spawn(connection(client, control.clone()));
    }
}

async fn connection(client: TcpStream, control: Arc<Control>) {
    let target = *lock(&control.target);
    let _open = Open::new(&control);
    let cut = control.conditions.borrow().cut;
    let server = match target {
        Some(target) if !cut => TcpStream::connect(target).await.ok(),
        _ => None,
    };
    let Some(server) = server else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut conditions = control.conditions.subscribe();
    let end = {
        let up = pipe::run(&mut from_client, &mut to_server, Piping::new(&control, Direction::Up));
        let down = pipe::run(&mut from_server, &mut to_client, Piping::new(&control, Direction::Down));
        let whole = async {
            tokio::pin!(up, down);
            tokio::select! {
                end = &mut down => end,
                // A client that has said all may still be listening.
                end = &mut up => if end == End::Over { down.await } else { end },
            }
        };
        let cut = async { drop(conditions.wait_for(|conditions| conditions.cut).await) };
        tokio::select! {
            end = whole => end,
            () = cut => End::Reset,
        }
    };
    if end == End::Reset {
        reset(to_client.as_ref());
    }
}

/// Makes the coming close a reset: no wait for what is still to be sent (SO_LINGER with 0 seconds).
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}
