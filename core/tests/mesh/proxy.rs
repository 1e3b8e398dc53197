//! A TCP proxy that can cut, swallow and refuse.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything passes.
    Open,
    /// Every connection is cut, new ones too.
    Cut,
    /// Connections stay and nothing passes.
    Silent,
    /// Only what the dialler says passes.
    OneWay,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Dialler,
    Listener,
}

/// Stands between two nodes until dropped.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (mode, watched) = watch::channel(Mode::Open);
        tokio::spawn(async move {
            let mut gone = watched.clone();
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = async { while gone.changed().await.is_ok() {} } => return,
                };
                let Ok((near, _)) = accepted else { return };
                if *watched.borrow() == Mode::Cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(target).await else { continue };
                let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                tokio::spawn(pass(near_read, far_write, Says::Dialler, watched.clone()));
                tokio::spawn(pass(far_read, near_write, Says::Listener, watched.clone()));
            }
        });
        Self { addr, mode: Arc::new(mode) }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    says: Says,
    mut mode: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let now = *mode.borrow_and_update();
        let read = async {
            match (now, says) {
                (Mode::Open, _) | (Mode::OneWay, Says::Dialler) => from.read(&mut buffer).await,
                (Mode::Silent, _) | (Mode::OneWay, Says::Listener) => std::future::pending().await,
                (Mode::Cut, _) => Ok(0),
            }
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            read = read => match read {
                Ok(len @ 1..) => {
                    if to.write_all(&buffer[..len]).await.is_err() {
                        return;
                    }
                }
                Ok(0) | Err(_) => return,
            },
        }
    }
}
