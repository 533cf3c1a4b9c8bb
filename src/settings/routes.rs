//! The routes of a namespace: its own, then those of its profiles.

use crate::policy::profile::{self, PROFILES, Profile};
use crate::policy::{ModelId, Origin, Placed, Problems, RouteError, RouteSpec, RouteTable};
use crate::strict_toml::{self, Table, closest, plain_name};

use super::values::Context;

/// What a namespace says of its routes.
pub(super) struct Routes {
    pub(super) table: RouteTable,
    pub(super) profiles: Vec<&'static str>,
    pub(super) default_model: Option<ModelId>,
}

pub(super) fn routes(namespace: &mut Table<'_>, context: &mut Context<'_>) -> Routes {
    let mut table = RouteTable::new();
    // Where each route of the table was asked for.
    let mut lines = Vec::new();
    let own_routes = namespace.tables("route");
    let mut are_asked_for = !own_routes.is_empty();
    for mut own in own_routes {
        if let Some(spec) = route_spec(&mut own) {
            if is_covered(&table, &spec) {
                context.warn(
                    own.line(),
                    "the route is never used: one above has the same path and methods",
                    "remove one of the two",
                );
            }
            match table.add(Origin::Own, &spec) {
                Ok(()) => lines.push(own.line()),
                Err(errors) => tell_route_errors(&own, &errors),
            }
        }
        own.finish();
    }
    let names = namespace.strings("profiles");
    are_asked_for |= names.is_some() && !namespace.has_empty_list("profiles");
    // A value that is no list was told already.
    are_asked_for |= names.is_none() && namespace.kind("profiles").is_some();
    let profiles = profiles(namespace, names.map(|names| names.value).unwrap_or_default());
    for profile in &profiles {
        if let Err(problems) = add_profile(&mut table, profile.value) {
            // The tests read every built-in profile, so nobody should ever see this.
            let what =
                format!("the built-in profile `{}` is broken: {problems}", profile.value.name);
            namespace.problem(profile.line, what, "report this as a defect of the program");
        }
        lines.resize(table.routes().len(), profile.line);
    }
    if !are_asked_for {
        namespace.missing(
            "the namespace has no route, so every request would be refused",
            "name a profile, such as `profiles = [\"ovh\"]`, or write `[[namespace.route]]` tables",
        );
    }
    let default_model = default_model(namespace);
    if namespace.kind("default_model").is_none() {
        check_default_routes(namespace, &table, &lines);
    }
    let profiles = profiles.into_iter().map(|profile| profile.value.name).collect();
    Routes { table, profiles, default_model }
}

/// Whether every method of a route on its very path is taken by routes above it.
fn is_covered(table: &RouteTable, spec: &RouteSpec) -> bool {
    let is_taken = |method: &String| {
        table.routes().iter().any(|above| {
            above.path() == spec.path
                && above.methods().iter().any(|own| **own == *"*" || **own == **method)
        })
    };
    !spec.methods.is_empty() && spec.methods.iter().all(is_taken)
}

fn tell_route_errors(route: &Table<'_>, errors: &[RouteError]) {
    for error in errors {
        let (key, remedy) = key_and_remedy(error);
        route.problem(route.line_of(key), error.to_string(), remedy);
    }
}

/// Routes that are always about the default model, in a namespace that has none.
fn check_default_routes(namespace: &Table<'_>, table: &RouteTable, lines: &[usize]) {
    let mut told = Vec::new();
    for (route, line) in table.routes().iter().zip(lines) {
        if !route.is_about_default_model() || told.contains(line) {
            continue;
        }
        told.push(*line);
        let what = match route.origin() {
            Origin::Own => "the route is about the default model, and there is none".into(),
            Origin::Profile(name) => {
                format!("the profile `{name}` is about the default model, and there is none")
            }
        };
        namespace.problem(
            *line,
            what,
            "write `default_model = \"…\"` in the namespace: the id of the one model that is served",
        );
    }
}

fn default_model(namespace: &mut Table<'_>) -> Option<ModelId> {
    let model = namespace.parsed("default_model", "llama", |text| {
        ModelId::parse(text).map_err(|error| {
            strict_toml::Complaint::new(
                format!("is no model id ({error})"),
                "write the id of a model, without `*`",
            )
        })
    });
    model.map(|model| model.value)
}

fn profiles(namespace: &Table<'_>, names: Vec<Placed<String>>) -> Vec<Placed<Profile>> {
    let mut profiles: Vec<Placed<Profile>> = Vec::new();
    for Placed { value: name, line } in names {
        if profiles.iter().any(|other| other.value.name == name) {
            let what = format!("the profile `{name}` is named twice");
            namespace.problem(line, what, "name it once");
            continue;
        }
        if let Some(profile) = profile::find(&name) {
            profiles.push(Placed::new(profile, line));
            continue;
        }
        let built_in = PROFILES.iter().map(|profile| profile.name);
        let what = match plain_name(&name) {
            Some(name) => format!("there is no profile `{name}`"),
            None => "there is no such profile".into(),
        };
        let remedy = match closest(&name, built_in.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => {
                let all: Vec<String> = built_in.map(|name| format!("\"{name}\"")).collect();
                format!("name one of {}", all.join(", "))
            }
        };
        namespace.problem(line, what, remedy);
    }
    profiles
}

/// Adds the routes of a profile.
fn add_profile(table: &mut RouteTable, profile: Profile) -> Result<(), Problems> {
    let reading = strict_toml::read(profile.text, |root| {
        for mut route in root.tables("route") {
            if let Some(spec) = route_spec(&mut route)
                && let Err(errors) = table.add(Origin::Profile(profile.name), &spec)
            {
                tell_route_errors(&route, &errors);
            }
            route.finish();
        }
    });
    reading.problems.or(())
}

fn route_spec(table: &mut Table<'_>) -> Option<RouteSpec> {
    table.must_have("methods", "write `methods = [\"POST\"]`, or [\"*\"] for every method");
    table.must_have("path", "write `path = \"/score/{model}\"`");
    table.must_have("group", "write `group = \"model-evaluation\"`, or \"public\" or \"deny\"");
    let texts = |list: Placed<Vec<Placed<String>>>| {
        list.value.into_iter().map(|text| text.value).collect::<Vec<_>>()
    };
    let methods = table.strings("methods").map(texts);
    let path = table.string("path");
    let group = table.string("group");
    let model = table.strings("model").map(texts);
    let unnamed = table.string("unnamed").map(|unnamed| unnamed.value);
    let dialect = table.string("dialect").map(|dialect| dialect.value);
    let any_resource = table.boolean("any_resource").is_some_and(|yes| yes.value);
    let filter = table.string("filter").map(|filter| filter.value);
    Some(RouteSpec {
        methods: methods?,
        path: path?.value,
        group: group?.value,
        model,
        unnamed,
        dialect,
        any_resource,
        filter,
    })
}

/// Which key of a route an error is about, and what to write instead where the error does not say.
fn key_and_remedy(error: &RouteError) -> (&'static str, &'static str) {
    match error {
        RouteError::Methods => ("methods", "for example [\"GET\", \"POST\"]"),
        RouteError::ForbiddenMethod => ("methods", "remove them"),
        RouteError::Path(_) => (
            "path",
            "for example \"/score/{model}\" or \"/files/{rest...}\": `{name}` is one segment, \
             a last `{name...}` is all that remains",
        ),
        RouteError::Group => ("group", "for example \"model-evaluation\""),
        RouteError::Model(_) => ("model", "for example [\"path\"], [\"body\"] or [\"grpc:1\"]"),
        RouteError::Filter(_) => (
            "filter",
            "it says which list of models the answer is, to show each token its own models only",
        ),
        RouteError::Unnamed => (
            "unnamed",
            "it says what a request is about that names no model; without it, `default_model`",
        ),
        RouteError::Dialect => ("dialect", "without it, it is \"problem\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_is_in_order() {
        for &profile in PROFILES {
            let mut table = RouteTable::new();
            add_profile(&mut table, profile).unwrap_or_else(|problems| {
                panic!("{}: {problems}", profile.name);
            });
            assert!(!table.routes().is_empty(), "{}", profile.name);
        }
    }
}
