//! Answers that break HTTP itself. Those without an end go on until the other side hangs up.

use std::{io, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::Behaviour;

/// The largest chunk of a chunked body.
const CHUNK: usize = 64 << 10;

/// Interim answers without end.
pub(super) async fn interim(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n").await?;
    }
}

/// A head whose fields go on for `size` bytes.
pub(super) async fn long_head(stream: &mut TcpStream, size: u64) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 206 Partial Content\r\n").await?;
    let line = format!("X-Long: {}\r\n", "x".repeat(8000));
    let mut sent = 0;
    while sent < size {
        stream.write_all(line.as_bytes()).await?;
        sent += 8000;
    }
    stream.write_all(b"\r\n").await
}

/// A TLS alert, a terminal's escape codes, zeros: everything but HTTP.
pub(super) async fn rubbish(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"\x15\x03\x01\x00\x02\x02\x28\x1b[2J\x1b]0;owned\x07\0\0\0\0\r\n\r\n").await?;
    stream.shutdown().await?;
    Err(io::ErrorKind::ConnectionAborted.into())
}

/// One byte after another.
pub(super) async fn drip(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> io::Result<()> {
    for byte in bytes {
        stream.write_all(std::slice::from_ref(byte)).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// A chunked body with a trailer, or without end.
pub(super) async fn chunked(stream: &mut TcpStream, bytes: &[u8], ends: bool) -> io::Result<()> {
    for part in bytes.chunks(CHUNK) {
        stream.write_all(format!("{:x};ext=1\r\n", part.len()).as_bytes()).await?;
        stream.write_all(part).await?;
        stream.write_all(b"\r\n").await?;
    }
    if !ends {
        loop {
            stream.write_all(b"1\r\nx\r\n").await?;
        }
    }
    stream.write_all(b"0\r\nX-Digest: none\r\nContent-Length: 5\r\n\r\n").await
}

/// Ends a body early, each in its own way.
pub(super) async fn break_off(stream: &mut TcpStream, behaviour: &Behaviour) -> io::Result<()> {
    match behaviour {
        Behaviour::Reset { .. } => stream.set_zero_linger()?,
        Behaviour::Stall { .. } => std::future::pending().await,
        _ => stream.shutdown().await?,
    }
    Err(io::ErrorKind::ConnectionAborted.into())
}
