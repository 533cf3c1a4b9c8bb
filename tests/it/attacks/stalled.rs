//! Peers that stop in the middle: they cost themselves what they asked for, and nobody else.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::{connect, get, rig_before, start, wait_for_flights};
use crate::support::certificates::Authority;
use crate::support::gate::{Folder, Gate, Namespace, Settings};
use crate::support::h2c_server::H2cServer;
use crate::support::http1::{self, Client};
use crate::support::http2::kind;
use crate::support::model_server::{CANNED_BODY, ModelServer, Then};
use crate::support::rig::Rig;
use crate::support::tokens;

/// SETTINGS by which streams begin without any window.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

#[test]
fn an_upload_that_stays_open_after_the_whole_answer_holds_no_flight() {
    let server = H2cServer::scripted(|stream, _| stream.answer(b"done"));
    let rig = rig_before(&server, "", "");
    let mut http2 = connect(&rig);
    let paths: Vec<String> = (0..8).map(|number| format!("/score/allowed?{number}")).collect();
    let streams: Vec<u32> =
        paths.iter().map(|path| start(&mut http2, "POST", path, Some("eval"), false)).collect();
    for stream in streams {
        assert_eq!(http2.answer(stream).response().body, b"done");
    }
    wait_for_flights(&rig, 0);
    // The model server is told, too, that nothing more will come.
    for path in &paths {
        let (_, seen) = server.wait_for(path, "is reset", |message| message.reset.is_some());
        assert!(seen.body.is_empty() && !seen.is_whole, "{seen:?}");
    }
    rig.finish(0);
}

#[test]
fn a_client_without_a_window_holds_its_flights_no_longer_than_it_may() {
    let limits = "write_idle_timeout = \"300ms\"\nmax_requests_in_flight = 20\n";
    let rig = Rig::with(ModelServer::canned(), |settings| settings.limits = limits.into());
    let mut http2 = connect(&rig);
    http2.settled();
    http2.send(kind::SETTINGS, 0, 0, &NO_WINDOW);
    // A public route: nobody needs a token for this.
    for _ in 0..20 {
        get(&mut http2, "/open", None);
    }
    rig.server.wait_for_requests(20);
    wait_for_flights(&rig, 0);
    assert_eq!(rig.ask(&http1::get("/score/allowed").token("eval")).text(), CANNED_BODY);
    rig.finish(21);
}

/// What a request for `big` is answered with, in bytes: more than any connection takes in advance.
const BIG: usize = 8 * 1024 * 1024;

/// What others are answered with.
const SMALL: usize = 100_000;

/// A model server of HTTP/2 that keeps to the windows it is given, and names the connection in each answer.
fn server_of_large_answers() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    // Ends with the process of the tests; each connection ends with the gate.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            for nth in 0_u64.. {
                let Ok((socket, _)) = listener.accept().await else { return };
                tokio::spawn(answer_largely(socket, nth));
            }
        });
    });
    address
}

async fn answer_largely(socket: tokio::net::TcpStream, nth: u64) {
    let Ok(mut connection) = h2::server::handshake(socket).await else { return };
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        let length = if request.uri().path().ends_with("big") { BIG } else { SMALL };
        let head = http::Response::builder().header("x-connection", nth).body(()).unwrap();
        let Ok(mut body) = answer.send_response(head, false) else { continue };
        drop(body.send_data(Bytes::from(vec![b'x'; length]), true));
    }
}

#[test]
fn a_client_that_reads_nothing_leaves_others_their_part_of_a_shared_connection() {
    let address = server_of_large_answers();
    let rig = Rig::with(ModelServer::canned(), |settings| {
        settings.namespaces[0].endpoints = vec![format!("h2c://{address}")];
    });
    let mut stalled = connect(&rig);
    stalled.settled();
    stalled.send(kind::SETTINGS, 0, 0, &NO_WINDOW);
    let streams: Vec<u32> =
        (0..8).map(|_| get(&mut stalled, "/files/allowed/big", Some("eval"))).collect();
    let heads: Vec<_> = streams.iter().map(|stream| stalled.answer_head(*stream)).collect();
    let shared = heads[0].field("x-connection").unwrap().to_owned();
    // Each worker has a connection of its own. Clients come until one shares the stalled client's.
    let small = || http1::get("/files/allowed/small").token("eval");
    let mut others = Vec::new();
    let mut other = loop {
        let mut client = rig.connect();
        let response = client.ask(&small());
        assert_eq!((response.status, response.body.len()), (200, SMALL));
        if response.field("x-connection") == Some(&shared) {
            break client;
        }
        others.push(client);
        assert!(others.len() < 200, "no client shares the connection {shared}");
    };
    // By the end of these the server has sent of the large answers all that it may.
    for round in 0..40 {
        let response = other.ask(&small());
        assert_eq!((response.status, response.body.len()), (200, SMALL), "round {round}");
    }
    assert!(rig.gate.metric("faregate_requests_in_flight", &[]) >= 8.0, "the others still stall");
    rig.finish(0);
}

#[test]
fn clients_of_the_ops_listener_that_read_nothing_silence_no_probe() {
    let rig = Rig::standard();
    let asked = http1::get("/metrics").bytes().repeat(100);
    let stalled: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut socket = TcpStream::connect(rig.gate.ops).unwrap();
            socket.set_nonblocking(true).unwrap();
            // Until it takes no more, or has ended; a gate that takes everything is asked enough.
            for _ in 0..1000 {
                if socket.write_all(&asked).is_err() {
                    break;
                }
            }
            socket
        })
        .collect();
    // Waits as long as a test may.
    let response = Client::to(rig.gate.ops).ask(&http1::get("/livez"));
    assert_eq!((response.status, response.text().as_str()), (200, "ok\n"));
    drop(stalled);
    rig.finish(0);
}

#[test]
fn requests_for_a_silent_server_fail_together_and_not_one_after_the_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    std::thread::spawn(move || {
        // Takes connections and says nothing; ends with the process of the tests.
        let mut silent = Vec::new();
        for socket in listener.incoming() {
            counter.fetch_add(1, Ordering::SeqCst);
            silent.push(socket);
        }
    });
    let authority = Authority::new("authority");
    let folder = Folder::new();
    folder.write("ca.crt", &authority.pem);
    folder.write("tokens.toml", tokens::standard_file());
    let mut namespace = Namespace::before(format!("https://{address}"));
    namespace.upstream = "ca_file = \"ca.crt\"\nconnect_timeout = \"1s\"\n".into();
    folder.write("faregate.toml", Settings::of(namespace).toml());
    let rig = Rig::of(Gate::start(folder), ModelServer::canned());
    let request = http1::get("/score/allowed").token("eval");
    let mut clients: Vec<Client> = (0..12).map(|_| rig.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(request.bytes()));
    for client in &mut clients {
        let response = client.response();
        let told = (response.status, response.reason());
        assert_eq!(told, (502, Some("upstream_unreachable")), "{response:?}");
    }
    // One for each of the two workers, and room for the gate's own tries; not one for each request.
    let tries = accepted.load(Ordering::SeqCst);
    assert!(tries <= 6, "{tries} connections for 12 requests");
    rig.finish(0);
}

#[test]
fn a_shared_connection_that_went_silent_is_not_used_again() {
    let server = H2cServer::scripted(|stream, _| {
        if stream.connection > 0 {
            stream.answer(b"done");
        }
    });
    // Idle connections are kept for longer than the test takes.
    let rig = rig_before(&server, "", "response_timeout = \"300ms\"\nidle_timeout = \"60s\"\n");
    let mut http2 = connect(&rig);
    let stream = get(&mut http2, "/score/allowed?first", Some("eval"));
    let refused = http2.answer(stream).response();
    assert_eq!((refused.status(), refused.reason()), (504, Some("upstream_timeout")));
    for round in 0..3 {
        let stream = get(&mut http2, &format!("/score/allowed?{round}"), Some("eval"));
        let response = http2.answer(stream).response();
        assert_eq!((response.status(), &response.body[..]), (200, &b"done"[..]), "round {round}");
    }
    assert_eq!(server.connections(), 2);
    rig.finish(0);
}

#[test]
fn a_web_socket_client_that_takes_nothing_is_ended() {
    let server = ModelServer::scripted(|exchange| {
        exchange.switch_protocols();
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        // More than all buffers between the two.
        for _ in 0..1024 {
            exchange.send(vec![b'y'; 65536]);
        }
        Then::Close
    });
    let limits = "write_idle_timeout = \"300ms\"\n";
    let rig = Rig::with(server, |settings| settings.limits = limits.into());
    let mut client = rig.connect();
    let request = http1::get("/score/allowed")
        .token("eval")
        .with("Connection", "Upgrade")
        .with("Upgrade", "websocket")
        .with("Sec-WebSocket-Version", "13")
        .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    client.send(request.bytes());
    assert_eq!(client.response_head().0, 101);
    // The server is rid of it without the client having said or taken anything.
    rig.server.wait_for_closed_here(1);
    wait_for_flights(&rig, 0);
    assert!(client.rest().len() < 1024 * 65536, "what was cut is not whole");
    rig.finish(1);
}

#[test]
fn a_new_shared_connection_is_used_as_soon_as_the_server_allows_a_stream() {
    let server = H2cServer::scripted(|stream, _| stream.answer(b"done"));
    // Longer than the test waits: an answer that comes has not waited for it.
    let rig = rig_before(&server, "", "connect_timeout = \"60s\"\n");
    assert_eq!(rig.ask(&http1::get("/score/allowed").token("eval")).text(), "done");
    rig.finish(0);
}
