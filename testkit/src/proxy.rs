//! A TCP proxy between a server and its clients that spoils what the server sends, as told while it runs.

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Answers shorter than this pass unspoiled: health checks and problem documents are not what the faults are for.
const HEAD: u64 = 4096;
const BLOCK: usize = 16 * 1024;

/// What the proxy does to the server's bytes.
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

#[derive(Debug)]
struct Control {
    target: Mutex<Option<SocketAddr>>,
    fault: watch::Sender<Fault>,
    /// Bytes a second from the server, all connections together; 0 for no limit.
    rate: Mutex<Option<Bucket>>,
    open: AtomicUsize,
    most_open: AtomicUsize,
    passed: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    bytes_per_second: f64,
    free_at: Instant,
}

impl Proxy {
    /// Listens on a free port; connections wait until there is a target.
    ///
    /// # Errors
    /// When no port is to be had.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let control = Arc::new(Control {
            target: Mutex::default(),
            fault: watch::Sender::new(Fault::None),
            rate: Mutex::default(),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            passed: AtomicU64::new(0),
        });
        let mut task = JoinSet::new();
        task.spawn(accept(listener, control.clone()));
        Ok(Self { address, control, _task: task })
    }

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where their connections go.
    pub fn forward_to(&self, target: SocketAddr) {
        *self.control.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(target);
    }

    /// Spoils from now on, running connections too.
    pub fn spoil(&self, fault: Fault) {
        self.control.fault.send_replace(fault);
    }

    /// Lets through so many bytes a second, all connections together; `None` for no limit.
    pub fn limit(&self, bytes_per_second: Option<u32>) {
        *self.control.rate.lock().unwrap_or_else(PoisonError::into_inner) =
            bytes_per_second.map(|rate| Bucket { bytes_per_second: f64::from(rate.max(1)), free_at: Instant::now() });
    }
}

impl Proxy {
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

impl Control {
    /// When the next `bytes` may go.
    fn admit(&self, bytes: usize) -> Option<Instant> {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = rate.as_mut()?;
        let now = Instant::now();
        let at = bucket.free_at.max(now);
        // A block is far below 2^32 bytes.
        let cost = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / bucket.bytes_per_second;
        bucket.free_at = at + Duration::from_secs_f64(cost);
        Some(bucket.free_at)
    }
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(client, control.clone()));
    }
}

async fn connection(client: TcpStream, control: Arc<Control>) {
    let target = *control.target.lock().unwrap_or_else(PoisonError::into_inner);
    let _open = Open::new(&control);
    let refused = *control.fault.borrow() == Fault::Refuse;
    let server = match target {
        Some(target) if !refused => TcpStream::connect(target).await.ok(),
        _ => None,
    };
    let Some(server) = server else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
    let down = spoil(&mut from_server, &mut to_client, &control);
    let broken = tokio::select! {
        ended = down => ended,
        Err(_) = up => false,
    };
    if broken && let Ok(client) = from_client.reunite(to_client) {
        reset(&client);
    }
}

/// Copies the server's bytes until it ends or the fault says so; whether the client is to see a reset.
async fn spoil(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    control: &Control,
) -> bool {
    let mut fault = control.fault.subscribe();
    let mut buffer = vec![0; BLOCK];
    let mut seen = 0_u64;
    loop {
        let now = *fault.borrow_and_update();
        let past = |limit: u64| seen >= limit.max(HEAD);
        match now {
            Fault::Refuse => return true,
            Fault::Reset(limit) if past(limit) => return true,
            Fault::Truncate(limit) if past(limit) => return false,
            Fault::Stall(limit) if past(limit) => {
                if fault.changed().await.is_err() {
                    return false;
                }
                continue;
            }
            _ => {}
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = fault.changed() => if changed.is_ok() { continue } else { return false },
        };
        let Ok(length @ 1..) = read else { return false };
        let Some(block) = buffer.get_mut(..length) else { return false };
        if let Fault::Flip(every) = now {
            flip(block, seen, every);
        }
        seen += length as u64;
        control.passed.fetch_add(length as u64, Ordering::Relaxed);
        if let Some(at) = control.admit(length) {
            sleep_until(at).await;
        }
        if to.write_all(block).await.is_err() {
            return false;
        }
    }
}

/// Flips a bit wherever the stream's position is a multiple of `every`, but not in the first block, which holds a head.
fn flip(block: &mut [u8], start: u64, every: NonZeroU64) {
    for (position, byte) in (start..).zip(block) {
        if position >= HEAD && position % every == 0 {
            *byte ^= 1;
        }
    }
}

/// Makes the coming close a reset: no wait for what is still to be sent (SO_LINGER with 0 seconds).
fn reset(stream: &TcpStream) {
    let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}
