use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::output::{self, Cell, Outcome, Table};
use super::target::Target;
use crate::admin::view::RouteView;
use crate::policy::{Access, Route};

/// Print the route table in force.
///
/// A request is judged by the most specific route that matches its method and path; what no route
/// matches is refused. `public` routes need no token, `deny` routes are refused to everybody.
#[derive(Args)]
#[command(after_help = "\
Examples:
  faregate routes
  faregate routes --namespace fraud --json")]
pub(super) struct Routes {
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct RoutesJson<'r> {
    namespace: &'r str,
    default_model: Option<&'r str>,
    enforce: bool,
    routes: Vec<RouteView<'r>>,
}

impl Routes {
    pub(super) fn run(self) -> Outcome {
        let opened = self.target.open()?;
        let rules = opened.rules();
        let routes = rules.routes.routes();
        let default_model = rules.default_model.as_ref().map(|model| model.as_str());
        if self.json {
            output::print_json(&RoutesJson {
                namespace: &opened.namespace.name,
                default_model,
                enforce: rules.enforce,
                routes: routes.iter().map(RouteView::new).collect(),
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new(&["METHODS", "PATH", "MODEL FROM", "GROUP", "PROFILE"]);
        for route in routes {
            table.row(vec![
                Cell::plain(route.methods().join(",")),
                Cell::plain(route.path()),
                model_cell(route),
                match route.access() {
                    Access::Public => Cell::good("public"),
                    Access::Deny => Cell::bad("deny"),
                    Access::Group(group) => Cell::plain(&**group),
                },
                Cell::faint(route.origin().as_str()),
            ]);
        }
        output::print(&table.text())?;
        if let Some(model) = default_model {
            output::note(&format!("A request that names no model is about `{model}`."));
        }
        if !rules.enforce {
            output::warning("the namespace has `enforce = false`: refusals are only logged");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where the model is named; a route without one asks for the pattern `*`, unless it says otherwise.
fn model_cell(route: &Route) -> Cell {
    let places: Vec<String> = route.places().iter().map(ToString::to_string).collect();
    match (places.is_empty(), route.access()) {
        (false, _) => Cell::plain(places.join(",")),
        (true, Access::Group(_)) if route.filter().is_some() => Cell::faint("no model: filtered"),
        (true, Access::Group(_)) if route.any_resource() => Cell::faint("no model"),
        (true, Access::Group(_)) => Cell::faint("no model: asks for *"),
        (true, Access::Public | Access::Deny) => Cell::faint("-"),
    }
}
