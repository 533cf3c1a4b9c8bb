use std::fmt;
use std::path::{Path, PathBuf};

use crate::policy::Problem;
use crate::strict_toml::{self, Table};

use super::Settings;
use super::listeners::{self, Addresses};
use super::namespace::namespaces;
use super::values::Context;

/// Settings, and what in their file is odd but not wrong.
#[derive(Debug)]
pub struct ReadSettings {
    /// The settings.
    pub settings: Settings,
    /// What an administrator may want to look at, by line.
    pub warnings: Vec<Problem>,
}

/// Why a file cannot be used: all that is wrong with it. Prints one line for each problem,
/// `FILE:LINE: what; remedy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileProblems {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, by line; what is about the whole file comes first.
    pub problems: Vec<Problem>,
}

impl fmt::Display for FileProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, "{line}:")?;
            }
            write!(f, " {}", problem.what)?;
            if !problem.remedy.is_empty() {
                write!(f, "; {}", problem.remedy)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for FileProblems {}

impl Settings {
    /// Reads the file. The files that it names are not opened.
    ///
    /// # Errors
    /// When the file cannot be read, or with everything that is wrong in it.
    pub fn read(path: &Path) -> Result<ReadSettings, FileProblems> {
        let unusable = |problem| FileProblems { file: path.into(), problems: vec![problem] };
        let bytes = std::fs::read(path).map_err(|error| {
            unusable(Problem::of_file(
                format!("the settings cannot be read: {error}"),
                "name the file by `--config`; `faregate init` makes one",
            ))
        })?;
        let text = str::from_utf8(&bytes).map_err(|error| {
            let good = &bytes[..error.valid_up_to()];
            let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
            unusable(Problem::at(
                line,
                "the line is not UTF-8",
                "save the file in the encoding UTF-8",
            ))
        })?;
        Self::from_text(text, path)
    }

    /// Reads the text of a file, whose path is for messages and for the paths in it.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn from_text(text: &str, path: &Path) -> Result<ReadSettings, FileProblems> {
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut context = Context { file: path, folder, warnings: Vec::new() };
        let reading = strict_toml::read(text, |root| settings(root, &mut context));
        let Context { mut warnings, .. } = context;
        warnings.sort_by_key(|warning| warning.line);
        match reading.problems.or(reading.value) {
            Ok(settings) => Ok(ReadSettings { settings, warnings }),
            Err(problems) => Err(FileProblems { file: path.into(), problems: problems.sorted() }),
        }
    }
}

fn settings(root: &mut Table<'_>, context: &mut Context<'_>) -> Settings {
    let mut addresses = Addresses::default();
    let data = listeners::data(root, context, &mut addresses);
    let admin = listeners::admin(root, context, &mut addresses);
    let ops = listeners::ops(root, &mut addresses);
    let forward_auth = listeners::forward_auth(root, context, &mut addresses);
    addresses.check(root);
    let namespaces = namespaces(root, context);
    if let Some(admin) = &admin {
        listeners::check_audit_log(root, admin, &namespaces, context);
    }
    Settings {
        data,
        admin,
        ops,
        forward_auth,
        log: listeners::log(root),
        limits: listeners::limits(root),
        drain: listeners::drain(root),
        namespaces,
    }
}
