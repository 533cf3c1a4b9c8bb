//! `[[namespace]]`: the models behind some hosts, with their tokens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::policy::{Placed, Rules};
use crate::strict_toml::{Complaint, Kind, Table};

use super::addresses::host_pattern;
use super::header_name::header_name;
use super::routes::{Routes, routes};
use super::upstream::{models, upstream};
use super::values::Context;
use super::{CredentialPlace, HostPattern, IdentityHeaders, Namespace};

pub(super) fn namespaces(root: &mut Table<'_>, context: &mut Context<'_>) -> Vec<Namespace> {
    let mut namespaces: Vec<Namespace> = Vec::new();
    let mut names = BTreeMap::new();
    let mut hosts = BTreeMap::new();
    let tables = root.tables("namespace");
    if tables.is_empty() && matches!(root.kind("namespace"), None | Some(Kind::List)) {
        root.missing(
            "there is no `[[namespace]]`, so every request would be refused",
            "write one with `tokens`, `profiles` and `[namespace.upstream]`",
        );
    }
    for mut table in tables {
        let namespace = namespace(&mut table, context, &mut names, &mut hosts);
        table.finish();
        if let Some(namespace) = namespace {
            if namespaces.iter().any(|other| other.tokens == namespace.tokens) {
                context.warn(
                    names.get(&namespace.name).copied().unwrap_or_default(),
                    "the namespace shares its token file with one above: each token is valid in both",
                    "give each namespace a token file of its own",
                );
            }
            namespaces.push(namespace);
        }
    }
    namespaces
}

fn namespace(
    table: &mut Table<'_>,
    context: &mut Context<'_>,
    names: &mut BTreeMap<String, usize>,
    all_hosts: &mut BTreeMap<HostPattern, usize>,
) -> Option<Namespace> {
    let name = name(table, names);
    let hosts = hosts(table, all_hosts);
    let tokens = tokens(table, context);
    let credentials = credentials(table, context);
    let Routes { table: routes, profiles, default_model } = routes(table, context);
    let enforce = table.boolean("enforce").is_none_or(|enforce| enforce.value);
    if !enforce {
        context.warn(
            table.line_of("enforce"),
            "nothing is enforced in this namespace: what would be refused is forwarded, logged \
             and counted",
            "write `enforce = true` once the log shows no request that must pass",
        );
    }
    let identity_headers = identity_headers(table, &credentials);
    let upstream = upstream(table, context);
    let models = models(table, context);
    Some(Namespace {
        name,
        hosts,
        tokens: tokens?,
        profiles,
        credentials,
        rules: Arc::new(Rules { routes, default_model, enforce }),
        upstream: upstream?,
        models,
        identity_headers,
    })
}

fn name(table: &mut Table<'_>, names: &mut BTreeMap<String, usize>) -> String {
    const DEFAULT: &str = "default";
    let is_given = table.kind("name").is_some();
    let name = table.parsed("name", DEFAULT, parse_name);
    if name.is_none() && is_given {
        // Told already; it is not `default` that was meant.
        return String::new();
    }
    let Placed { value: name, line } =
        name.unwrap_or_else(|| Placed::new(DEFAULT.into(), table.line()));
    if let Some(before) = names.insert(name.clone(), line) {
        table.problem(
            line,
            format!("the namespace of line {before} has the same name"),
            "give each namespace a `name` of its own",
        );
    }
    name
}

fn parse_name(text: &str) -> Result<String, Complaint> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
        return Err(Complaint::new(
            "is no name of a namespace",
            "write 1 to 64 characters of A-Z a-z 0-9 . _ -",
        ));
    }
    Ok(text.into())
}

fn hosts(table: &mut Table<'_>, all: &mut BTreeMap<HostPattern, usize>) -> Vec<HostPattern> {
    let is_given = table.kind("hosts").is_some();
    let list = table.strings("hosts").map_or_else(Vec::new, |list| list.value);
    let list = if is_given { list } else { vec![Placed::new("*".into(), table.line())] };
    if table.has_empty_list("hosts") {
        table.problem(
            table.line_of("hosts"),
            "`hosts` is empty, so no request would find the namespace",
            "write the hosts that clients name, or [\"*\"] for every one",
        );
    }
    let mut hosts = Vec::new();
    for Placed { value: text, line } in list {
        match host_pattern(&text) {
            Ok(host) => {
                if let Some(before) = all.insert(host.clone(), line) {
                    let what = if is_given {
                        format!("an entry of `hosts` stands on line {before} already")
                    } else {
                        format!("without `hosts` it is for every host, as that of line {before}")
                    };
                    table.problem(
                        line,
                        what,
                        "let each host belong to one namespace, and name it once",
                    );
                } else {
                    hosts.push(host);
                }
            }
            Err(complaint) => table.complain_entry(line, "hosts", complaint),
        }
    }
    hosts
}

fn tokens(table: &mut Table<'_>, context: &Context<'_>) -> Option<PathBuf> {
    table
        .must_have("tokens", "write `tokens = \"tokens.toml\"`; `faregate init` makes such a file");
    if table.kind("tokens") == Some(Kind::Table) {
        table.problem(
            table.line_of("tokens"),
            "this version keeps tokens in files only",
            "write the path of a file: `tokens = \"tokens.toml\"`",
        );
        table.ignore("tokens");
        return None;
    }
    context.path(table, "tokens")
}

fn credentials(table: &mut Table<'_>, context: &mut Context<'_>) -> Vec<CredentialPlace> {
    let Some(list) = table.strings("credentials") else {
        return vec![
            CredentialPlace::Bearer,
            CredentialPlace::Header("x-api-key".into()),
            CredentialPlace::Basic,
        ];
    };
    if table.has_empty_list("credentials") {
        table.problem(
            list.line,
            "`credentials` is empty, so nobody could present a token",
            "remove the key, or write places, for example [\"bearer\"]",
        );
    }
    let mut places = Vec::new();
    for Placed { value: text, line } in list.value {
        match credential_place(&text) {
            Ok(place) if places.contains(&place) => {
                table.problem(
                    line,
                    "an entry of `credentials` stands twice",
                    "name each place once",
                );
            }
            Ok(place) => {
                if matches!(place, CredentialPlace::Query(_)) {
                    context.warn(
                        line,
                        "a token in the query ends up in logs, histories and bookmarks elsewhere",
                        "use \"bearer\" where clients can send a header",
                    );
                }
                places.push(place);
            }
            Err(complaint) => table.complain_entry(line, "credentials", complaint),
        }
    }
    places
}

fn credential_place(text: &str) -> Result<CredentialPlace, Complaint> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match text {
        "bearer" => return Ok(CredentialPlace::Bearer),
        "basic" => return Ok(CredentialPlace::Basic),
        "websocket-protocol" => return Ok(CredentialPlace::WebSocketProtocol),
        _ => {}
    }
    match text.split_once(':').unwrap_or((text, "")) {
        ("header", name) => header_name(name).map(CredentialPlace::Header),
        ("query", "model") => Err(Complaint::new(
            "is the query parameter that names the model",
            "write another name, such as \"query:api_key\"",
        )),
        ("query", name) if is_query_name(name) => Ok(CredentialPlace::Query(name.into())),
        ("query", _) => Err(Complaint::new(
            "has no name of a query parameter after `query:`",
            "write 1 to 64 characters of A-Z a-z 0-9 . _ ~ -, such as \"query:api_key\"",
        )),
        ("cookie", name) if !name.is_empty() && name.len() <= 64 && name.bytes().all(is_token) => {
            Ok(CredentialPlace::Cookie(name.into()))
        }
        ("cookie", _) => Err(Complaint::new(
            "has no name of a cookie after `cookie:`",
            "for example \"cookie:token\"",
        )),
        _ => Err(Complaint::new(
            "is no place of a credential",
            "write \"bearer\", \"basic\", \"header:NAME\", \"query:NAME\", \"cookie:NAME\" or \
             \"websocket-protocol\"",
        )),
    }
}

fn is_query_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-'))
}

fn identity_headers(namespace: &mut Table<'_>, credentials: &[CredentialPlace]) -> IdentityHeaders {
    let mut names = IdentityHeaders {
        token_id: "x-credential-identifier".into(),
        token_name: "x-consumer-username".into(),
        groups: "x-authenticated-groups".into(),
    };
    let mut table = namespace.table("identity_headers");
    let mut lines = [0; 3];
    if let Some(table) = &mut table {
        let keys = [
            ("token_id", &mut names.token_id),
            ("token_name", &mut names.token_name),
            ("groups", &mut names.groups),
        ];
        for ((key, name), line) in keys.into_iter().zip(&mut lines) {
            if let Some(given) = table.parsed(key, name, header_name) {
                *name = given.value;
                *line = given.line;
            }
        }
    }
    let all = [&names.token_id, &names.token_name, &names.groups];
    let fallback = namespace.line_of("identity_headers");
    for (place, (name, line)) in all.into_iter().zip(lines).enumerate() {
        let line = if line == 0 { fallback } else { line };
        if all[..place].contains(&name) {
            namespace.problem(
                line,
                "two of the `identity_headers` have the same name",
                "give each a name of its own",
            );
        }
        let is_credential = credentials
            .iter()
            .any(|place| matches!(place, CredentialPlace::Header(header) if header == name));
        if is_credential {
            namespace.problem(
                line,
                "one of the `identity_headers` is a place of credentials too",
                "give it another name: what clients send there is removed",
            );
        }
    }
    if let Some(table) = table {
        table.finish();
    }
    names
}
