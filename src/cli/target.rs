use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::output::Failure;
use crate::policy::Rules;
use crate::settings::{Namespace, Settings};
use crate::store::file::FileStore;

/// Which settings a command is about.
#[derive(Args)]
pub(super) struct ConfigFile {
    /// The settings file.
    #[arg(
        id = "config",
        long = "config",
        value_name = "FILE",
        env = "FAREGATE_CONFIG",
        hide_env_values = true,
        default_value = "config/faregate.toml"
    )]
    pub(super) path: PathBuf,
}

/// Which namespace of which settings a command is about.
#[derive(Args)]
pub(super) struct Target {
    #[command(flatten)]
    config: ConfigFile,
    /// The namespace [default: the one called `default`, else the only one].
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
}

/// A namespace whose token file a command reads or changes.
pub(super) struct Opened {
    pub(super) namespace: Namespace,
    pub(super) store: FileStore,
}

impl Opened {
    pub(super) fn rules(&self) -> &Arc<Rules> {
        &self.namespace.rules
    }
}

impl Target {
    /// Reads the settings and finds the namespace.
    pub(super) fn open(&self) -> Result<Opened, Failure> {
        let path = &self.config.path;
        let mut namespaces = Settings::read(path)?.settings.namespaces;
        let place = match &self.namespace {
            Some(name) => namespaces.iter().position(|namespace| namespace.name == *name),
            None if namespaces.len() == 1 => Some(0),
            None => namespaces.iter().position(|namespace| namespace.name == "default"),
        };
        let Some(place) = place else {
            let names: Vec<&str> = namespaces.iter().map(|own| own.name.as_str()).collect();
            let names = names.join("`, `");
            return Err(Failure::Usage(match &self.namespace {
                Some(name) => format!(
                    "{}: there is no namespace `{name}`; there are `{names}`",
                    path.display()
                ),
                None => format!(
                    "{}: there are several namespaces; say which with `--namespace`: `{names}`",
                    path.display()
                ),
            }));
        };
        let namespace = namespaces.swap_remove(place);
        let store = FileStore::new(&namespace.tokens);
        Ok(Opened { namespace, store })
    }
}
