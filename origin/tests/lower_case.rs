//! Origins that write `http/1.1` in small letters, over every kind of connection.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod tls_origin;

use std::net::{Ipv4Addr, SocketAddr};

use ddm_origin::{Credentials, OriginConfig, Origins};
use testkit::{
    forward::{Forward, Login, Route},
    nginx,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use tls_origin::acceptor;

const LOGIN: Login<'_> = Login { name: "ddm", password: "hunter2" };
const ANSWER: &[u8] = b"http/1.1 200 OK\r\nETag: \"v1\"\r\nX-Odd: a\r\n b\r\nContent-Length: 5\r\n\r\nhello";

/// Starts a server that hands each connection to `serve`.
async fn listen<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await;
    let _ = stream.write_all(ANSWER).await;
    let _ = stream.shutdown().await;
}

/// Starts a SOCKS proxy (RFC 1928) that connects to this port of the loopback, whatever name it is given.
async fn socks(port: u16) -> SocketAddr {
    listen(move |mut client| async move {
        let serve = async {
            let mut greeting = [0; 2];
            client.read_exact(&mut greeting).await?;
            client.read_exact(&mut vec![0; greeting[1].into()]).await?;
            client.write_all(&[5, 0]).await?;
            let mut request = [0; 5];
            client.read_exact(&mut request).await?;
            assert_eq!(request[3], 3, "the name is left to the proxy");
            client.read_exact(&mut vec![0; usize::from(request[4]) + 2]).await?;
            client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await?;
            copy_bidirectional(&mut client, &mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?).await
        };
        let _ = serve.await;
    })
    .await
}

#[tokio::test]
async fn heads_in_small_letters_are_read_in_the_clear_and_over_tls_directly_and_through_every_kind_of_proxy() {
    let folder = tempfile::tempdir().unwrap();
    nginx::self_signed(folder.path()).await.unwrap();
    let acceptor = acceptor(folder.path());
    let plain = listen(answer).await;
    let secure = listen({
        let acceptor = acceptor.clone();
        move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream).await;
                }
            }
        }
    })
    .await;
    let hosts = [plain.port(), secure.port()].map(|port| (format!("localhost:{port}"), port));
    let routes = hosts.each_ref().map(|(host, port)| Route { host, address: (Ipv4Addr::LOCALHOST, *port).into() });
    let forward = Forward::start(&routes, Some(LOGIN)).await.unwrap();
    let encrypted = listen({
        let (acceptor, to) = (acceptor.clone(), forward.address());
        move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = copy_bidirectional(&mut stream, &mut TcpStream::connect(to).await.unwrap()).await;
            }
        }
    })
    .await;
    let Login { name: user, password } = LOGIN;
    for (scheme, origin) in [("http", plain), ("https", secure)] {
        let socks = socks(origin.port()).await;
        for proxy in [
            None,
            Some(format!("http://{user}:{password}@{}", forward.address())),
            Some(format!("https://{user}:{password}@localhost:{}", encrypted.port())),
            Some(format!("socks5://{socks}")),
        ] {
            let what = format!("{scheme} through {proxy:?}");
            let config = OriginConfig {
                origin_ca: Some(folder.path().join("leaf.pem")),
                origin_proxy: proxy.map(Into::into),
                ..OriginConfig::default()
            };
            let origins = Origins::for_user(&config, Credentials::default()).unwrap();
            let url = format!("{scheme}://localhost:{}/a.bin", origin.port()).parse().unwrap();
            let mut whole = origins.whole(&url, None).await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(whole.size, Some(5), "{what}");
            assert_eq!(whole.body.next().await.unwrap().as_deref(), Some(&b"hello"[..]), "{what}");
        }
    }
}
