//! Token files and the secrets that belong to them. A secret follows from its token's id, so that a test names a
//! token and needs to carry nothing.

use std::fmt::Write as _;

use faregate::token::{Digest, Secret, SecretKind};

/// A `[[token]]` table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'t> {
    pub(crate) id: &'t str,
    pub(crate) name: &'t str,
    pub(crate) resources: &'t [&'t str],
    pub(crate) groups: &'t [&'t str],
    /// Further lines of the table.
    pub(crate) more: &'t str,
}

const EVALUATION: &[&str] = &["model-evaluation"];
const MANAGEMENT: &[&str] = &["model-management"];
const NARROW: &[&str] = &["allowed", "pre-*"];
const WIDE: &[&str] = &["*"];

/// The tokens of every rig.
pub(crate) const STANDARD: &[Token<'static>] = &[
    // The two of the rig's security rules: what they may not use is the model `secret`.
    Token { id: "eval", name: "calls models", resources: NARROW, groups: EVALUATION, more: "" },
    Token { id: "manage", name: "deploys models", resources: NARROW, groups: MANAGEMENT, more: "" },
    // Only the form of a request can be a reason to refuse this one.
    Token {
        id: "all",
        name: "",
        resources: WIDE,
        groups: &["model-evaluation", "model-management"],
        more: "",
    },
    Token { id: "powerless", name: "", resources: &[], groups: &[], more: "" },
    Token { id: "no-groups", name: "", resources: WIDE, groups: &[], more: "" },
    Token { id: "no-models", name: "", resources: &[], groups: EVALUATION, more: "" },
    Token {
        id: "expired",
        name: "was there in 2020",
        resources: WIDE,
        groups: EVALUATION,
        more: "expires_at = 2020-01-01T00:00:00Z\n",
    },
    Token {
        id: "disabled",
        name: "switched off",
        resources: WIDE,
        groups: EVALUATION,
        more: "disabled = true\n",
    },
];

/// The secret of the token with this id, in every test the same.
pub(crate) fn secret(id: &str) -> String {
    made(SecretKind::Token, &format!("secret of {id}")).reveal().to_string()
}

/// The secret it had before it was regenerated.
pub(crate) fn former_secret(id: &str) -> String {
    made(SecretKind::Token, &format!("former secret of {id}")).reveal().to_string()
}

pub(crate) fn administrator_key() -> String {
    made(SecretKind::AdminKey, "administrator").reveal().to_string()
}

/// The key of an administrator whom [`file`] does not name.
pub(crate) fn key_of(administrator: &str) -> String {
    made(SecretKind::AdminKey, &format!("key of {administrator}")).reveal().to_string()
}

/// An `[[admin]]` table with the key of [`key_of`].
pub(crate) fn administrator(name: &str) -> String {
    format!("\n[[admin]]\nname = \"{name}\"\nhash = \"{}\"\n", hash(&key_of(name)))
}

/// A key of another make, kept as `sha256:`.
pub(crate) const FOREIGN_KEY: &str = "sk-brought-from-elsewhere-0123456789";

fn made(kind: SecretKind, seed: &str) -> Secret {
    Secret::from_entropy(kind, blake3::hash(seed.as_bytes()).as_bytes())
}

/// The `hash` of a secret, as a file has it.
pub(crate) fn hash(secret: &str) -> String {
    Digest::blake3(secret.as_bytes()).to_file_form()
}

/// A `previous` line with the token's former secret.
pub(crate) fn previous(id: &str, valid_until: &str) -> String {
    format!(
        "previous = {{ hash = \"{}\", valid_until = {valid_until} }}\n",
        hash(&former_secret(id))
    )
}

/// A whole token file with the administrator, the foreign key's token (`foreign`) and these.
pub(crate) fn file(tokens: &[Token<'_>]) -> String {
    let mut text = String::from("version = 1\n");
    writeln!(text, "\n[[admin]]\nname = \"alice\"\nhash = \"{}\"", hash(&administrator_key()))
        .unwrap();
    let foreign = Digest::sha256(FOREIGN_KEY.as_bytes()).to_file_form();
    writeln!(
        text,
        "\n[[token]]\nid = \"foreign\"\nhash = \"{foreign}\"\nresources = [\"allowed\"]\ngroups = [\"model-evaluation\"]"
    )
    .unwrap();
    for token in tokens {
        write!(text, "\n[[token]]\nid = \"{}\"\n", token.id).unwrap();
        if !token.name.is_empty() {
            writeln!(text, "name = \"{}\"", token.name).unwrap();
        }
        writeln!(text, "hash = \"{}\"", hash(&secret(token.id))).unwrap();
        writeln!(text, "resources = {:?}\ngroups = {:?}", token.resources, token.groups).unwrap();
        text.push_str(token.more);
    }
    text
}

/// The standard file.
pub(crate) fn standard_file() -> String {
    file(STANDARD)
}

/// The first 12 hex digits of the file's BLAKE3: the label by which the gate says that a file is in force.
pub(crate) fn generation(file: &str) -> String {
    blake3::hash(file.as_bytes()).to_hex()[..12].to_owned()
}
