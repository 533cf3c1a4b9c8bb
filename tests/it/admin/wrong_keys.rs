//! Who tries keys: told so, written down, and made to wait, without keeping anybody else from working.

use std::net::{Ipv4Addr, SocketAddr};

use super::desk::{Desk, TOKENS, new_token};
use crate::support::eventually;
use crate::support::http1::{Client, Request};
use crate::support::tokens;
use crate::support::transport::{Came, Connection};

const LIST: &str = "/api/v1/namespaces";

/// A connection from another address of this machine.
fn connect_from(desk: &Desk, last: u8) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect(&desk.rig.gate.admin().into()).unwrap();
    Client::over(Connection::over(std::net::TcpStream::from(socket)), &std::sync::Arc::default())
}

fn wrong(desk: &Desk) -> Request {
    desk.anonymous("GET", LIST).bearer(&tokens::key_of("nobody"))
}

#[test]
fn after_ten_wrong_keys_their_address_waits_and_no_other() {
    let desk = Desk::new();
    // All in one go, so that the wait that follows the tenth is not over at the eleventh.
    let right = desk.request("GET", LIST);
    let nothing = desk.anonymous("GET", LIST);
    let page = desk.anonymous("GET", "/");
    let mut requests: Vec<Request> = vec![wrong(&desk); 11];
    requests.extend([right.clone(), nothing, page]);
    let mut client = connect_from(&desk, 5);
    client.send(requests.iter().flat_map(Request::bytes).collect::<Vec<u8>>());
    let answers: Vec<_> = requests
        .iter()
        .map(|request| {
            let response = client.response_to(request.method());
            desk.judge(request.method(), &response);
            response
        })
        .collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses[..10], [401; 10]);
    // The eleventh; the right key, which is not looked at; no key, which is no attempt; the page.
    assert_eq!(statuses[10..], [429, 429, 401, 200]);
    for blocked in &answers[10..12] {
        assert_eq!(blocked.reason(), Some("too_many_wrong_keys"));
        let seconds: u64 = blocked.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=2).contains(&seconds), "{seconds}");
    }
    // Others work, meanwhile and after.
    for _ in 0..3 {
        let response = connect_from(&desk, 6).ask(&right);
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(desk.ask(&right).status, 200);
    }
    // Who waits gets in with the right key, on the connection that he has, and starts anew.
    eventually("the right key is looked at again", || {
        (client.ask(&right).status == 200).then_some(())
    });
    let mut requests = vec![wrong(&desk); 9];
    requests.push(right.clone());
    client.send(requests.iter().flat_map(Request::bytes).collect::<Vec<u8>>());
    let statuses: Vec<u16> = (0..10).map(|_| client.response().status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 401, 401, 401, 401, 200]);
    desk.finish();
}

#[test]
fn a_right_key_between_them_forgives_the_wrong_ones() {
    let desk = Desk::new();
    let mut client = desk.connect();
    for _ in 0..5 {
        for _ in 0..9 {
            assert_eq!(client.ask(&wrong(&desk)).status, 401);
        }
        assert_eq!(client.ask(&desk.request("GET", LIST)).status, 200);
    }
    desk.finish();
}

#[test]
fn what_is_no_attempt_does_not_count_as_one() {
    let desk = Desk::new();
    let mut client = desk.connect();
    for _ in 0..15 {
        for (request, expected) in [
            (desk.anonymous("GET", LIST), 401),
            (wrong(&desk).host("evil.example"), 421),
            (wrong(&desk).with("Origin", "http://evil.example"), 403),
            (desk.anonymous("GET", "/").bearer("fga_wrong"), 200),
        ] {
            assert_eq!(client.ask(&request).status, expected);
        }
    }
    assert_eq!(client.ask(&desk.request("GET", LIST)).status, 200);
    desk.finish();
}

#[test]
fn a_wait_says_the_same_to_a_right_key_and_a_wrong_one() {
    let desk = Desk::new();
    let mut requests = vec![wrong(&desk); 11];
    requests.push(desk.request("GET", LIST));
    let mut client = connect_from(&desk, 7);
    client.send(requests.iter().flat_map(Request::bytes).collect::<Vec<u8>>());
    let answers: Vec<_> = requests.iter().map(|_| client.response()).collect();
    assert_eq!((answers[10].status, answers[11].status), (429, 429));
    assert_eq!(answers[10].without_what_varies(), answers[11].without_what_varies());
    desk.finish();
}

#[test]
fn a_key_that_is_taken_away_while_the_body_comes_changes_nothing() {
    let desk = Desk::before(&(tokens::standard_file() + &tokens::administrator("bob")), |_| {});
    let request = desk
        .anonymous("POST", TOKENS)
        .bearer(&tokens::key_of("bob"))
        .with("Content-Type", "application/json")
        .body(new_token("too late").to_string());
    let bytes = request.bytes();
    let (most, last) = bytes.split_at(bytes.len() - 1);
    let mut client = desk.connect();
    client.send(most);
    // Answered on the same thread, so that the head has been looked at by then.
    assert_eq!(desk.get(LIST).status, 200);
    desk.rig.gate.change_tokens(&tokens::standard_file());
    client.send(last);
    let response = client.response_to("POST");
    desk.judge("POST", &response);
    assert!(matches!(response.status, 401 | 404), "{response:?}");
    assert_eq!(desk.file(), tokens::standard_file());
    desk.finish();
}

#[test]
fn who_holds_connections_open_keeps_no_other_address_out() {
    let desk = Desk::new();
    // Each has been answered, and says nothing more.
    let mut idle: Vec<Client> = (0..300)
        .map(|_| {
            let mut client = connect_from(&desk, 9);
            client.send(desk.anonymous("GET", LIST).bytes());
            client
        })
        .collect();
    let mut client = connect_from(&desk, 10);
    client.send(desk.request("GET", LIST).bytes());
    assert_eq!(client.response().status, 200);
    // It was not served because all who came first had gone by then.
    let mut open = 0;
    for client in &mut idle[..200] {
        let patience = std::time::Duration::from_millis(1);
        client.connection.socket().set_read_timeout(Some(patience)).unwrap();
        let mut came = Came::Bytes(0);
        while matches!(came, Came::Bytes(_)) {
            came = client.connection.read_once();
        }
        open += usize::from(came == Came::Nothing);
    }
    assert!(open >= 20, "{open} are open");
    desk.finish();
}
