//! Clients that come by TLS: versions, protocols, certificates on both sides, and certificates that change while the
//! gate runs.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::version::{TLS12, TLS13};

use crate::support::certificates::{Authority, Certificate, ClientSide};
use crate::support::eventually;
use crate::support::gate::{Folder, Gate, Namespace, Settings};
use crate::support::http1::{Client, find, get};
use crate::support::http2::Http2;
use crate::support::model_server::ModelServer;
use crate::support::rig::Rig;
use crate::support::tokens;
use crate::support::transport::Connection;

const NAME: &str = "models.test";

fn write_pair(folder: &Folder, pair: &Certificate) {
    folder.write("tls.crt", &pair.pem);
    folder.write("tls.key", &pair.key);
}

/// A gate that shows this certificate.
fn rig_with(own: &Certificate, clients: Option<&Authority>) -> Rig {
    let server = ModelServer::canned();
    let folder = Folder::new();
    write_pair(&folder, own);
    let mut settings = Settings::of(Namespace::before(server.url()));
    settings.data = "tls = { cert_file = \"tls.crt\", key_file = \"tls.key\" }\n".into();
    if let Some(authority) = clients {
        folder.write("clients.crt", &authority.pem);
        settings.data = settings.data.replace(" }", ", client_ca_file = \"clients.crt\" }");
    }
    folder.write("tokens.toml", tokens::standard_file());
    folder.write("faregate.toml", settings.toml());
    Rig::of(Gate::start(folder), server)
}

fn connect(rig: &Rig, config: &Arc<ClientConfig>) -> std::io::Result<Client> {
    Connection::tls(rig.gate.data, config, NAME).map(|connection| rig.over(connection))
}

#[test]
fn both_versions_of_tls_are_spoken_and_the_request_is_known_to_have_come_so() {
    let authority = Authority::new("authority");
    let rig = rig_with(&authority.sign(&[NAME]), None);
    for versions in [&[&TLS12][..], &[&TLS13], &[&TLS13, &TLS12]] {
        let config = authority.client(&ClientSide { versions, ..ClientSide::default() });
        let mut client = connect(&rig, &config).unwrap();
        for _ in 0..3 {
            assert_eq!(client.ask(&get("/score/allowed").token("eval")).status, 200);
        }
        assert_eq!(
            client.ask(&get("/score/secret").token("eval")).reason(),
            Some("resource_not_allowed")
        );
    }
    for request in rig.server.requests() {
        assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    }
    rig.finish(9);
}

#[test]
fn who_speaks_no_tls_is_not_served() {
    let authority = Authority::new("authority");
    let rig = rig_with(&authority.sign(&[NAME]), None);
    let mut client = rig.connect();
    client.send(get("/score/allowed").token("eval").bytes());
    let rest = client.rest();
    assert!(find(&rest, b"HTTP/1.1 200").is_none(), "{:?}", String::from_utf8_lossy(&rest));
    // And who trusts another authority hangs up by itself.
    let stranger = Authority::new("stranger");
    let refused = connect(&rig, &stranger.client(&ClientSide::default()));
    assert!(refused.is_err());
    rig.finish(0);
}

#[test]
fn the_protocol_is_chosen_in_the_handshake() {
    let authority = Authority::new("authority");
    let rig = rig_with(&authority.sign(&[NAME]), None);
    let offer = |alpn: &[&str]| authority.client(&ClientSide { alpn, ..ClientSide::default() });
    for alpn in [&["h2", "http/1.1"][..], &["h2"], &["http/1.1", "h2"]] {
        let connection = Connection::tls(rig.gate.data, &offer(alpn), NAME).unwrap();
        let mut http2 = Http2::client(connection, rig.heard());
        let bearer = format!("Bearer {}", tokens::secret("eval"));
        let response = http2
            .ask(&[
                (":method", b"GET"),
                (":scheme", b"https"),
                (":authority", NAME.as_bytes()),
                (":path", b"/score/allowed"),
                ("authorization", bearer.as_bytes()),
            ])
            .response();
        assert_eq!(response.status(), 200, "{alpn:?}");
    }
    for alpn in [&["http/1.1"][..], &[]] {
        let mut client = connect(&rig, &offer(alpn)).unwrap();
        assert_eq!(client.ask(&get("/score/allowed").token("eval")).status, 200, "{alpn:?}");
    }
    rig.finish(5);
}

#[test]
fn clients_show_a_certificate_where_one_is_asked_for() {
    let (authority, clients, stranger) =
        (Authority::new("authority"), Authority::new("clients"), Authority::new("stranger"));
    let rig = rig_with(&authority.sign(&[NAME]), Some(&clients));
    let (own, foreign) = (clients.sign(&["client"]), stranger.sign(&["client"]));
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let side = |certificate| authority.client(&ClientSide { versions, certificate, alpn: &[] });
        let mut client = connect(&rig, &side(Some(&own))).unwrap();
        assert_eq!(client.ask(&get("/score/allowed").token("eval")).status, 200);
        // A certificate is no token.
        assert_eq!(client.ask(&get("/score/allowed")).status, 401);
        for refused in [None, Some(&foreign)] {
            // With TLS 1.3 a client learns only after its own handshake that it is refused.
            if let Ok(mut client) = connect(&rig, &side(refused)) {
                client.send(get("/score/allowed").token("eval").bytes());
                client.assert_closes();
            }
        }
    }
    rig.finish(2);
}

#[test]
fn a_new_certificate_is_shown_when_its_files_change_and_a_bad_one_is_not() {
    let authority = Authority::new("authority");
    let (first, second, third) =
        (authority.sign(&[NAME]), authority.sign(&[NAME]), authority.sign(&[NAME]));
    let rig = rig_with(&first, None);
    let config = authority.client(&ClientSide::default());
    let shows = |pair: &Certificate| {
        let connection = Connection::tls(rig.gate.data, &config, NAME).unwrap();
        connection.peer_certificates == pair.chain()
    };
    assert!(shows(&first));
    let mut kept = connect(&rig, &config).unwrap();
    assert_eq!(kept.ask(&get("/score/allowed").token("eval")).status, 200);
    write_pair(&rig.gate.folder, &second);
    eventually("the second certificate is shown", || shows(&second).then_some(()));
    assert_eq!(
        kept.ask(&get("/score/allowed").token("eval")).status,
        200,
        "the connection is kept"
    );
    let failures = || {
        let lines = rig.gate.log_lines();
        lines.iter().filter(|line| line.contains("certificate refused")).count()
    };
    let mut current = second;
    for (case, certificate, key) in [
        ("no certificate", "nonsense", current.key.clone()),
        ("no key", &current.pem.clone(), "nonsense".to_owned()),
        ("another key", &current.pem.clone(), third.key.clone()),
        ("empty", "", String::new()),
    ] {
        let before = failures();
        rig.gate.folder.write("tls.crt", certificate);
        rig.gate.folder.write("tls.key", key);
        eventually(&format!("it is told: {case}"), || (failures() > before).then_some(()));
        assert!(shows(&current), "{case}");
        let next = authority.sign(&[NAME]);
        write_pair(&rig.gate.folder, &next);
        eventually(&format!("a good pair is taken again: {case}"), || shows(&next).then_some(()));
        current = next;
    }
    assert!(!String::from_utf8_lossy(&rig.gate.log()).contains("PRIVATE KEY"));
    rig.finish(2);
}
