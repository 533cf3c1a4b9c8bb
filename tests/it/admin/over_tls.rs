//! The admin listener with TLS.

use std::sync::Arc;

use rustls::ClientConfig;

use super::desk::{Desk, TOKENS, new_token};
use crate::support::certificates::{Authority, Certificate, ClientSide};
use crate::support::eventually;
use crate::support::gate::Folder;
use crate::support::http1::{Client, find};
use crate::support::tokens;
use crate::support::transport::Connection;

const NAME: &str = "localhost";

fn desk_with(own: &Certificate, clients: Option<&Authority>) -> Desk {
    let folder = Folder::new();
    folder.write("tokens.toml", tokens::standard_file());
    folder.write("admin.crt", &own.pem);
    folder.write("admin.key", &own.key);
    let mut ca = "";
    if let Some(authority) = clients {
        folder.write("clients.crt", &authority.pem);
        ca = ", client_ca_file = \"clients.crt\"";
    }
    Desk::in_folder(folder, |settings| {
        settings.admin =
            Some(format!("tls = {{ cert_file = \"admin.crt\", key_file = \"admin.key\"{ca} }}\n"));
    })
}

fn connect(desk: &Desk, config: &Arc<ClientConfig>) -> std::io::Result<Client> {
    let connection = Connection::tls(desk.rig.gate.admin(), config, NAME)?;
    Ok(Client::over(connection, &Arc::default()))
}

#[test]
fn it_is_spoken_where_it_is_set_and_nothing_else_is() {
    let authority = Authority::new("authority");
    let desk = desk_with(&authority.sign(&[NAME]), None);
    for alpn in [&[][..], &["http/1.1"], &["h2", "http/1.1"]] {
        let config = authority.client(&ClientSide { alpn, ..ClientSide::default() });
        let mut client = connect(&desk, &config).unwrap();
        for request in [
            desk.with_json("POST", TOKENS, &new_token("over TLS")),
            desk.with_json("POST", TOKENS, &new_token("over the same TLS")),
        ] {
            let response = client.ask(&request);
            desk.judge("POST", &response);
            assert_eq!(response.status, 201);
            let secret = response.json()["secret"].as_str().unwrap().to_owned();
            assert_eq!(desk.status_with(&secret), 200);
        }
        let response = client.ask(&desk.anonymous("GET", TOKENS));
        desk.judge("GET", &response);
        assert_eq!(response.status, 401);
    }
    // Without TLS: not a word of HTTP.
    for request in [desk.request("GET", "/api/v1/namespaces"), desk.anonymous("GET", "/")] {
        let mut client = desk.connect();
        client.send(request.bytes());
        let rest = client.rest();
        assert!(find(&rest, b"HTTP/").is_none(), "{:?}", String::from_utf8_lossy(&rest));
    }
    // With another authority's: the client hangs up.
    let stranger = Authority::new("stranger");
    assert!(connect(&desk, &stranger.client(&ClientSide::default())).is_err());
    desk.finish();
}

#[test]
fn a_certificate_is_asked_for_and_is_no_key() {
    let (authority, clients, stranger) =
        (Authority::new("authority"), Authority::new("clients"), Authority::new("stranger"));
    let desk = desk_with(&authority.sign(&[NAME]), Some(&clients));
    let (own, foreign) = (clients.sign(&["alice"]), stranger.sign(&["alice"]));
    let side = |certificate| authority.client(&ClientSide { certificate, ..ClientSide::default() });
    let mut client = connect(&desk, &side(Some(&own))).unwrap();
    for (request, expected) in [
        (desk.request("GET", "/api/v1/namespaces"), 200),
        (desk.anonymous("GET", "/api/v1/namespaces"), 401),
    ] {
        let response = client.ask(&request);
        desk.judge("GET", &response);
        assert_eq!(response.status, expected);
    }
    for refused in [None, Some(&foreign)] {
        // With TLS 1.3 a client learns only after its own handshake that it is refused.
        if let Ok(mut client) = connect(&desk, &side(refused)) {
            client.send(desk.request("GET", "/api/v1/namespaces").bytes());
            client.assert_closes();
        }
    }
    desk.finish();
}

#[test]
fn a_new_certificate_is_shown_when_its_files_change() {
    let authority = Authority::new("authority");
    let (first, second) = (authority.sign(&[NAME]), authority.sign(&[NAME]));
    let desk = desk_with(&first, None);
    let config = authority.client(&ClientSide::default());
    let shows = |pair: &Certificate| {
        let connection = Connection::tls(desk.rig.gate.admin(), &config, NAME).unwrap();
        connection.peer_certificates == pair.chain()
    };
    assert!(shows(&first));
    let mut kept = connect(&desk, &config).unwrap();
    desk.rig.gate.folder.write("admin.crt", &second.pem);
    desk.rig.gate.folder.write("admin.key", &second.key);
    eventually("the second certificate is shown", || shows(&second).then_some(()));
    assert_eq!(kept.ask(&desk.request("GET", "/api/v1/namespaces")).status, 200);
    desk.finish();
}
