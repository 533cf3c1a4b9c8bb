//! Where requests go: the model servers of a namespace and of single models.

use std::time::Duration;

use crate::policy::{Pattern, Placed, RequestPath};
use crate::strict_toml::{Complaint, Table};

use super::addresses::endpoint;
use super::values::{Context, duration};
use super::{Endpoint, ModelElsewhere, PrefixSegment, Scheme, StripPrefix, UpstreamSettings};

pub(super) fn upstream(
    namespace: &mut Table<'_>,
    context: &mut Context<'_>,
) -> Option<UpstreamSettings> {
    let Some(mut table) = namespace.table("upstream") else {
        if namespace.kind("upstream").is_none() {
            namespace.missing(
                "the namespace has no `[namespace.upstream]`, so no request has where to go",
                "write the table with `endpoints = [\"http://127.0.0.1:8000\"]`: the model server",
            );
        }
        return None;
    };
    let upstream = servers(&mut table, context);
    table.finish();
    upstream
}

/// Reads the keys of `[namespace.upstream]`, which `[[namespace.model]]` has too.
fn servers(table: &mut Table<'_>, context: &mut Context<'_>) -> Option<UpstreamSettings> {
    const LONGEST: Duration = Duration::from_secs(7 * 86_400);
    let endpoints = endpoints(table, context);
    let is_https = endpoints
        .as_ref()
        .is_some_and(|endpoints| endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Https));
    for name in ["ca_file", "client_cert_file"] {
        if endpoints.is_some() && !is_https && table.kind(name).is_some() {
            let what = format!("`{name}` has no effect: no endpoint starts with https://");
            context.warn(table.line_of(name), &what, "remove it, or write https:// in `endpoints`");
        }
    }
    let has_cert = table.kind("client_cert_file").is_some();
    if has_cert != table.kind("client_key_file").is_some() {
        let (has, lacks) = if has_cert {
            ("client_cert_file", "client_key_file")
        } else {
            ("client_key_file", "client_cert_file")
        };
        table.problem(
            table.line_of(has),
            format!("`{has}` is there without `{lacks}`"),
            "write both, or none of the two",
        );
    }
    let ca_file = context.path(table, "ca_file");
    let cert_file = context.path(table, "client_cert_file");
    let key_file = context.path(table, "client_key_file");
    let authorization_file = table.table("authorization").and_then(|mut authorization| {
        authorization.must_have("file", "write `authorization = { file = \"upstream.key\" }`");
        let file = context.path(&mut authorization, "file");
        authorization.finish();
        file
    });
    let mut timeout =
        |name, default| duration(table, name, default, Duration::from_millis(1)..=LONGEST);
    let connect_timeout = timeout("connect_timeout", Duration::from_secs(1));
    let response_timeout = timeout("response_timeout", Duration::from_secs(600));
    let idle_timeout = timeout("idle_timeout", Duration::from_secs(4));
    Some(UpstreamSettings {
        endpoints: endpoints?,
        ca_file,
        client_cert: cert_file.zip(key_file),
        authorization_file,
        connect_timeout,
        response_timeout,
        idle_timeout,
    })
}

fn endpoints(table: &mut Table<'_>, context: &mut Context<'_>) -> Option<Vec<Endpoint>> {
    const REMEDY: &str = "write `endpoints = [\"http://127.0.0.1:8000\"]`: the model server";
    table.must_have("endpoints", REMEDY);
    let list = table.strings("endpoints")?;
    if table.has_empty_list("endpoints") {
        table.problem(list.line, "`endpoints` is empty", REMEDY);
        return None;
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut in_clear = None;
    let mut all_good = true;
    for Placed { value: text, line } in list.value {
        match endpoint(&text) {
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                table.problem(line, "an entry of `endpoints` stands twice", "remove one of them");
                all_good = false;
            }
            Ok(endpoint) => {
                if endpoint.scheme != Scheme::Https && !endpoint.is_loopback() {
                    in_clear = in_clear.or(Some(line));
                }
                endpoints.push(endpoint);
            }
            Err(complaint) => {
                table.complain_entry(line, "endpoints", complaint);
                all_good = false;
            }
        }
    }
    if let Some(line) = in_clear {
        context.warn(
            line,
            "requests to this model server cross the network in clear, and nothing there tells \
             the gate from others",
            "write https://, or let only the gate reach the model server",
        );
    }
    all_good.then_some(endpoints)
}

pub(super) fn models(namespace: &mut Table<'_>, context: &mut Context<'_>) -> Vec<ModelElsewhere> {
    let mut models: Vec<ModelElsewhere> = Vec::new();
    for mut table in namespace.tables("model") {
        table.must_have(
            "resource",
            "write `resource = \"iris*\"`: the models that are served there",
        );
        let resource = table.parsed("resource", "iris*", |text| {
            Pattern::parse(text).map_err(|error| {
                Complaint::new(
                    format!("is no pattern ({error})"),
                    "write a model id, `prefix*`, or `*`",
                )
            })
        });
        if let Some(resource) = &resource
            && models.iter().any(|other| other.resource == resource.value)
        {
            table.problem(
                resource.line,
                "a `[[namespace.model]]` above has the same `resource`",
                "write all its servers into the `endpoints` of one table",
            );
        }
        let strip_prefix = table.parsed("strip_prefix", "/{model}", strip_prefix);
        let upstream = servers(&mut table, context);
        table.finish();
        if let (Some(resource), Some(upstream)) = (resource, upstream) {
            models.push(ModelElsewhere {
                resource: resource.value,
                upstream,
                strip_prefix: strip_prefix.map(|prefix| prefix.value),
            });
        }
    }
    models.sort_by_key(|model| std::cmp::Reverse(model.resource.specificity()));
    models
}

fn strip_prefix(text: &str) -> Result<StripPrefix, Complaint> {
    let complaint = |what: &str| {
        Complaint::new(what, "write whole leading segments, such as \"/{model}\" or \"/a/{model}\"")
    };
    let tail = text.strip_prefix('/').ok_or_else(|| complaint("does not start with `/`"))?;
    let mut segments = Vec::new();
    for segment in tail.split('/') {
        if segment == "{model}" {
            if segments.contains(&PrefixSegment::Model) {
                return Err(complaint("names the model twice"));
            }
            segments.push(PrefixSegment::Model);
        } else if segment.is_empty() {
            return Err(complaint("has an empty segment or a `/` at its end"));
        } else if segment.contains(['{', '}']) {
            return Err(complaint("has a placeholder other than `{model}`"));
        } else if RequestPath::parse(&format!("/{segment}")).is_err() {
            return Err(complaint("has a segment that no accepted request path can have"));
        } else {
            segments.push(PrefixSegment::Literal(segment.into()));
        }
    }
    Ok(StripPrefix(segments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_are_cut_off() {
        use PrefixSegment::{Literal, Model};
        for (text, expected) in [
            ("/{model}", Some(vec![Model])),
            ("/a/{model}", Some(vec![Literal("a".into()), Model])),
            ("/{model}/v1", Some(vec![Model, Literal("v1".into())])),
            ("/a", Some(vec![Literal("a".into())])),
            ("", None),
            ("/", None),
            ("{model}", None),
            ("/{model}/", None),
            ("//{model}", None),
            ("/a{model}", None),
            ("/{model}x", None),
            ("/{other}", None),
            ("/{model}/{model}", None),
            ("/a b", None),
            ("/..", None),
            ("/%61", None),
        ] {
            assert_eq!(strip_prefix(text).ok(), expected.map(StripPrefix), "{text}");
        }
    }
}
