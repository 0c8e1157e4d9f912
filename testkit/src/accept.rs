//! Listening, for servers that only tests have.

use std::{io, sync::Arc};

use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Serves every connection of `listener` until aborted, and ends with all of them. One that breaks is no news: that is what these
/// servers are for.
pub(crate) fn accept<S, F>(
    listener: TcpListener,
    state: Arc<S>,
    serve: impl Fn(TcpStream, Arc<S>) -> F + Send + 'static,
) -> JoinHandle<()>
where
    S: Send + Sync + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    connections.spawn(serve(stream, Arc::clone(&state)));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    })
}
