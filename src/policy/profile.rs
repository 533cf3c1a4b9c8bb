//! Built-in route tables of model servers, as the text of their files. A profile is data: the same
//! tables as `[[namespace.route]]`, so that a person can copy one into the settings and change it.

/// A built-in profile.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// What `profiles = […]` calls it.
    pub name: &'static str,
    /// Its file: `[[route]]` tables.
    pub text: &'static str,
}

/// Every built-in profile.
pub const PROFILES: [Profile; 4] = [
    Profile { name: "ovh", text: include_str!("profiles/ovh.toml") },
    Profile { name: "ovh-runtime", text: include_str!("profiles/ovh-runtime.toml") },
    Profile { name: "kserve-v2", text: include_str!("profiles/kserve-v2.toml") },
    Profile { name: "any", text: include_str!("profiles/any.toml") },
];

/// The profile of this name.
#[must_use]
pub fn find(name: &str) -> Option<Profile> {
    PROFILES.into_iter().find(|profile| profile.name == name)
}
