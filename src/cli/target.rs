use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::output::Failure;
use crate::policy::amend::{AmendError, Amended};
use crate::policy::{Document, Policy, Rules};
use crate::settings::{Namespace, Settings};
use crate::store::StoreError;
use crate::store::file::{Committed, FileStore};

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

/// What a right token file says.
pub(super) struct Loaded {
    pub(super) document: Document,
    pub(super) policy: Policy,
    /// As 64 hexadecimal digits.
    pub(super) generation: String,
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

    /// Reads the token file, which must be right.
    pub(super) fn load(&self) -> Result<Loaded, Failure> {
        let snapshot = self.store.read()?;
        let (document, compiled) = self.store.judge(&snapshot, self.rules())?;
        let generation = snapshot.generation.to_hex();
        Ok(Loaded { document, policy: compiled.policy, generation })
    }

    /// Changes the token file.
    pub(super) fn commit<T>(
        &self,
        change: impl FnOnce(&Document) -> Result<(Amended, T), AmendError>,
    ) -> Result<Committed<T>, Failure> {
        self.store.commit(None, self.rules(), change).map_err(|error| self.failure(error))
    }

    /// What the store says, with the file's name and a remedy where the store has none.
    pub(super) fn failure(&self, error: StoreError) -> Failure {
        let file = self.store.path().display();
        let remedy = match &error {
            StoreError::Amend(AmendError::NoSuchToken(_)) => "; `faregate token list` shows all",
            StoreError::Amend(AmendError::NoSuchAdmin(_)) => {
                "; `faregate admin-key list` shows all"
            }
            StoreError::Amend(AmendError::AdminExists(_)) => {
                "; choose another name, or delete that one first"
            }
            StoreError::ReadOnly { .. } => {
                "\nNothing was changed. With `--stanza`, `token issue` and `token regenerate` print an \
                 entry to paste."
            }
            _ => "",
        };
        match error.path() {
            Some(_) => Failure::Message(format!("{error}{remedy}")),
            None => Failure::Message(format!("{file}: {error}{remedy}")),
        }
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
