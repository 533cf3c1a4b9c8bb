//! The floor of the side-by-side measurement: a TCP relay that checks nothing.
//!
//! One thread, one connection to the model server for each client connection, bytes copied both
//! ways as they come. A proxy cannot move the same requests with fewer reads and writes than this,
//! so what it costs beyond the relay is the price of understanding HTTP and checking tokens.
//!
//! Usage: `relay LISTEN UPSTREAM`, two socket addresses.

use std::error::Error;
use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(upstream), None) =
        (arguments.next(), arguments.next(), arguments.next())
    else {
        return Err("usage: relay LISTEN UPSTREAM".into());
    };
    let listen: SocketAddr = listen.parse()?;
    let upstream: SocketAddr = upstream.parse()?;
    // The same runtime as one worker of the gate: what differs is only the work.
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(relay(listen, upstream))?;
    Ok(())
}

async fn relay(listen: SocketAddr, upstream: SocketAddr) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (mut client, _) = listener.accept().await?;
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(upstream).await else {
                return;
            };
            // Without this, small answers may wait for an acknowledgement of the one before.
            if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
                return;
            }
            // A broken connection ends here and with it both sockets; the load generator counts it.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
