//! A TCP proxy between a server and its clients that does to either direction what bad networks do, as told while it runs.
//!
//! Each direction has a [`Line`]: latency, rate, flipped bits, repeated blocks, an end after so many bytes, silence. They
//! combine, and a change reaches connections that are open. Where bits flip depends on the seed and the position alone.

mod pipe;

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use pipe::{Course, End};

/// What the proxy does to the server's bytes: the usual single faults, for [`Proxy::spoil`].
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

/// One direction of every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the clients to the server.
    Up,
    /// From the server to the clients.
    Down,
}

/// What happens to the bytes of one direction. The first 4 KiB of a connection pass unspoiled, later than told at most: health
/// checks and problem documents are not what the faults are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Line {
    /// How much later each byte arrives; half of a round trip.
    pub latency: Duration,
    /// Bytes a second, all connections together.
    pub rate: Option<u32>,
    /// Flips one bit in every so many bytes.
    pub flip: Option<NonZeroU64>,
    /// Sends a block again after every so many bytes.
    pub duplicate: Option<NonZeroU64>,
    /// Resets the connection (RST) after so many bytes.
    pub reset: Option<u64>,
    /// Closes the connection (FIN) after so many bytes.
    pub truncate: Option<u64>,
    /// Passes so many bytes and then none until this changes: `Some(0)` is a black hole from the first byte on.
    pub hole: Option<u64>,
}

/// Both directions, and whether there is a connection at all.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    up: Line,
    down: Line,
    cut: bool,
}

impl Weather {
    const fn line(&self, direction: Direction) -> &Line {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
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
    seed: u64,
    target: Mutex<Option<SocketAddr>>,
    weather: watch::Sender<Weather>,
    // When the line of each direction is free again.
    up_free_at: Mutex<Option<Instant>>,
    down_free_at: Mutex<Option<Instant>>,
    accepted: AtomicU64,
    open: AtomicUsize,
    most_open: AtomicUsize,
    passed: AtomicU64,
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
            weather: watch::Sender::new(Weather::default()),
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

    /// Where clients connect.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where their connections go. Without a target they are reset.
    pub fn forward_to(&self, target: SocketAddr) {
        *lock(&self.control.target) = Some(target);
    }

    /// Changes one direction from now on, in open connections too; what else is set for it stays.
    pub fn shape(&self, direction: Direction, change: impl FnOnce(&mut Line)) {
        self.control.weather.send_modify(|weather| match direction {
            Direction::Up => change(&mut weather.up),
            Direction::Down => change(&mut weather.down),
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
        self.control.weather.send_modify(|weather| weather.cut = cut);
    }

    /// Everything passes as it is again.
    pub fn heal(&self) {
        self.control.weather.send_replace(Weather::default());
    }

    /// Spoils the server's bytes in this one way from now on; latency and rate stay.
    pub fn spoil(&self, fault: Fault) {
        self.control.weather.send_modify(|weather| {
            let Line { latency, rate, .. } = weather.down;
            weather.cut = fault == Fault::Refuse;
            weather.down = Line { latency, rate, ..Line::default() };
            match fault {
                Fault::None | Fault::Refuse => {}
                Fault::Flip(every) => weather.down.flip = Some(every),
                Fault::Reset(after) => weather.down.reset = Some(after),
                Fault::Truncate(after) => weather.down.truncate = Some(after),
                Fault::Stall(after) => weather.down.hole = Some(after),
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// When the next `bytes` may go that way.
    fn admit(&self, direction: Direction, rate: u32, bytes: usize) -> Instant {
        let mut free_at = lock(match direction {
            Direction::Up => &self.up_free_at,
            Direction::Down => &self.down_free_at,
        });
        let from = free_at.unwrap_or_else(Instant::now).max(Instant::now());
        // A block is far below 2^32 bytes.
        let cost = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / f64::from(rate.max(1));
        let at = from + Duration::from_secs_f64(cost);
        *free_at = Some(at);
        at
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
    let cut = control.weather.borrow().cut;
    let server = match target {
        Some(target) if !cut => TcpStream::connect(target).await.ok(),
        _ => None,
    };
    let Some(server) = server else { return reset(&client) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut weather = control.weather.subscribe();
    let end = {
        let up = pipe::run(&mut from_client, &mut to_server, Course::new(&control, Direction::Up));
        let down = pipe::run(&mut from_server, &mut to_client, Course::new(&control, Direction::Down));
        let whole = async {
            tokio::pin!(up, down);
            tokio::select! {
                end = &mut down => end,
                // A client that has said all may still be listening.
                end = &mut up => if end == End::Over { down.await } else { end },
            }
        };
        let cut = async { drop(weather.wait_for(|weather| weather.cut).await) };
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
