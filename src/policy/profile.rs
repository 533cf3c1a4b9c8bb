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

macro_rules! profiles {
    ($($name:literal),* $(,)?) => {
        /// Every built-in profile.
        pub const PROFILES: &[Profile] = &[
            $(Profile { name: $name, text: include_str!(concat!("profiles/", $name, ".toml")) },)*
        ];
    };
}

profiles! {
    "ovh",
    "ovh-runtime",
    "kserve-v1",
    "kserve-v2",
    "triton",
    "tensorflow-serving",
    "torchserve",
    "openai",
    "vllm",
    "tgi",
    "any",
}

/// The profile of this name.
#[must_use]
pub fn find(name: &str) -> Option<Profile> {
    PROFILES.iter().copied().find(|profile| profile.name == name)
}
