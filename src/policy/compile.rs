use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::document::{Document, Limits, Moment, Placed, TokenEntry};
use super::entry_rules::{self, Fault};
use super::model::ModelId;
use super::pattern::Pattern;
use super::problem::{Problem, Problems};
use super::route::RouteTable;
use crate::token::{Digest, TokenId};

/// What the settings say of a namespace, as far as the law is concerned.
#[derive(Debug, Default)]
pub struct Rules {
    /// Which routes there are and what they ask for.
    pub routes: RouteTable,
    /// The model that is meant where a request names none.
    pub default_model: Option<ModelId>,
    /// False: what rules 5 to 11 refuse is let through and told (`would_deny`).
    pub enforce: bool,
}

/// An immutable snapshot of who may do what in a namespace; swapped whole when a file changes.
pub struct Policy {
    pub(super) rules: Arc<Rules>,
    pub(super) tokens: Vec<Token>,
    pub(super) secrets: HashMap<[u8; 32], Holder, BuildHasherDefault<DigestHasher>>,
    pub(super) has_sha256: bool,
    ids: HashMap<TokenId, u32>,
    admins: Vec<(Box<str>, Digest)>,
}

/// A policy, and what in its document is odd but not wrong.
pub struct Compiled {
    /// The policy.
    pub policy: Policy,
    /// What an administrator may want to look at.
    pub warnings: Vec<Problem>,
}

/// A token in force.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) id: TokenId,
    pub(super) name: Option<Box<str>>,
    pub(super) groups: Box<[Box<str>]>,
    pub(super) resources: Box<[Pattern]>,
    pub(super) expires_at: Option<Moment>,
    pub(super) disabled: bool,
    pub(super) created_at: Option<Moment>,
    /// What few tokens have, apart, so that it takes no room in all the others.
    pub(super) seldom: Option<Box<Seldom>>,
}

/// What no decision asks for, and few tokens have.
#[derive(Debug)]
pub(super) struct Seldom {
    pub(super) previous_valid_until: Option<Moment>,
    pub(super) limits: Option<Limits>,
    pub(super) labels: BTreeMap<String, String>,
}

impl Seldom {
    fn of(entry: &TokenEntry) -> Option<Box<Self>> {
        let seldom = Self {
            previous_valid_until: entry.previous.as_ref().map(|previous| previous.valid_until),
            limits: entry.limits,
            labels: entry.labels.clone(),
        };
        let has_any = seldom.previous_valid_until.is_some()
            || seldom.limits.is_some()
            || !seldom.labels.is_empty();
        has_any.then(|| Box::new(seldom))
    }
}

impl Token {
    pub(super) fn has_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| **own == *group)
    }

    pub(super) fn may_use(&self, model: &str) -> bool {
        self.resources.iter().any(|pattern| pattern.matches(model))
    }

    pub(super) fn may_use_all(&self) -> bool {
        self.resources.contains(&Pattern::All)
    }
}

/// Whose secret a digest is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) digest: Digest,
    pub(super) token: u32,
    /// Set for the secret before the last regeneration.
    pub(super) valid_until: Option<Moment>,
}

/// Digests are as good as random already; their first eight bytes are the hash. Who could choose
/// them has the token file anyway.
#[derive(Default)]
pub(super) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Policy {
    /// The rules it was compiled with.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The administrator whose key this is.
    #[must_use]
    pub fn admin(&self, key: &[u8]) -> Option<&str> {
        let digest = Digest::blake3(key);
        let sha256 =
            self.admins.iter().any(|(_, own)| own.is_sha256()).then(|| Digest::sha256(key));
        self.admins
            .iter()
            .find(|(_, own)| *own == digest || Some(*own) == sha256)
            .map(|(name, _)| &**name)
    }

    pub(super) fn token_named(&self, id: &str) -> Option<u32> {
        TokenId::parse(id).ok().and_then(|id| self.ids.get(&id).copied())
    }

    pub(super) fn holder(&self, secret: crate::token::Presented<'_>) -> Option<Holder> {
        if !secret.is_well_formed() {
            return None;
        }
        let find = |digest: Digest| {
            self.secrets.get(digest.bytes()).filter(|holder| holder.digest == digest).copied()
        };
        let found = find(Digest::blake3(secret.bytes()));
        if found.is_none() && self.has_sha256 {
            return find(Digest::sha256(secret.bytes()));
        }
        found
    }
}

/// Judges a document and makes a policy of it.
///
/// # Errors
/// Everything that is wrong, each with its line.
pub fn compile(document: &Document, rules: Arc<Rules>) -> Result<Compiled, Problems> {
    let mut reading = Reading::new(&rules);
    let admins = document
        .admins
        .iter()
        .filter_map(|admin| {
            reading.check_name(&admin.name);
            if !reading.admin_names.insert(&admin.name.value) {
                reading.problem(
                    admin.name.line,
                    "an administrator of this name stands above".into(),
                    "give each administrator a name of its own",
                );
            }
            let digest = reading.digest(&admin.hash)?;
            Some((admin.name.value.as_str().into(), digest))
        })
        .collect();
    let mut policy = Policy {
        rules: Arc::clone(&rules),
        tokens: Vec::with_capacity(document.tokens.len()),
        secrets: HashMap::with_capacity_and_hasher(document.tokens.len(), Default::default()),
        has_sha256: false,
        ids: HashMap::with_capacity(document.tokens.len()),
        admins,
    };
    for entry in &document.tokens {
        reading.token(entry, &mut policy);
    }
    let Reading { problems, warnings, .. } = reading;
    policy.has_sha256 = policy.secrets.values().any(|holder| holder.digest.is_sha256());
    problems.or(Compiled { policy, warnings })
}

struct Reading<'d> {
    problems: Problems,
    warnings: Vec<Problem>,
    known_groups: Vec<String>,
    warned_groups: HashSet<&'d str>,
    admin_names: HashSet<&'d str>,
    digests: HashMap<[u8; 32], usize>,
}

impl<'d> Reading<'d> {
    fn new(rules: &Rules) -> Self {
        Self {
            problems: Problems::new(),
            warnings: Vec::new(),
            known_groups: rules.routes.groups().into_iter().map(Into::into).collect(),
            warned_groups: HashSet::new(),
            admin_names: HashSet::new(),
            digests: HashMap::new(),
        }
    }

    fn problem(&mut self, line: usize, what: String, remedy: &str) {
        self.problems.push(Problem::at(line, what, remedy));
    }

    fn fault(&mut self, line: usize, fault: Option<Fault>) {
        if let Some(Fault { what, remedy }) = fault {
            self.problem(line, what, remedy);
        }
    }

    fn token(&mut self, entry: &'d TokenEntry, policy: &mut Policy) {
        let index = u32::try_from(policy.tokens.len()).unwrap_or(u32::MAX);
        let id = TokenId::parse(&entry.id.value).map_err(|error| {
            self.problem(entry.id.line, "`id` is not a token id".into(), &error.to_string());
        });
        if let Ok(id) = &id
            && policy.ids.insert(id.clone(), index).is_some()
        {
            self.problem(
                entry.id.line,
                format!("the id `{id}` stands above already"),
                "give each token an id of its own",
            );
        }
        if let Some(name) = &entry.name {
            self.check_name(name);
        }
        let resources: Vec<Pattern> =
            entry.resources.iter().filter_map(|resource| self.pattern(resource)).collect();
        for group in &entry.groups {
            self.check_group(group);
        }
        self.fault(entry.id.line, entry_rules::labels_fault(&entry.labels));
        self.check_limits(entry);
        let secrets = [
            Some((&entry.hash, None)),
            entry.previous.as_ref().map(|previous| (&previous.hash, Some(previous.valid_until))),
        ];
        for (hash, valid_until) in secrets.into_iter().flatten() {
            if let Some(digest) = self.digest(hash) {
                policy
                    .secrets
                    .insert(*digest.bytes(), Holder { digest, token: index, valid_until });
            }
        }
        let Ok(id) = id else { return };
        policy.tokens.push(Token {
            id,
            name: entry.name.as_ref().map(|name| name.value.as_str().into()),
            groups: entry.groups.iter().map(|group| group.value.as_str().into()).collect(),
            resources: resources.into(),
            expires_at: entry.expires_at,
            disabled: entry.disabled,
            created_at: entry.created_at,
            seldom: Seldom::of(entry),
        });
    }

    fn check_name(&mut self, name: &Placed<String>) {
        self.fault(name.line, entry_rules::name_fault(&name.value));
    }

    fn pattern(&mut self, resource: &Placed<String>) -> Option<Pattern> {
        entry_rules::resource(&resource.value)
            .map_err(|fault| self.fault(resource.line, Some(fault)))
            .ok()
    }

    fn check_group(&mut self, group: &'d Placed<String>) {
        let name = group.value.as_str();
        if let Some(fault) = entry_rules::group_fault(name) {
            self.fault(group.line, Some(fault));
        } else if !self.known_groups.iter().any(|known| known == name)
            && self.warned_groups.insert(name)
        {
            self.warnings.push(Problem::at(
                group.line,
                format!("no route of the namespace asks for the group `{name}`"),
                "look for a typing mistake, or for a profile that is missing in the settings",
            ));
        }
    }

    fn check_limits(&mut self, entry: &TokenEntry) {
        let Some(limits) = &entry.limits else { return };
        for fault in entry_rules::limits_faults(limits) {
            self.fault(entry.id.line, Some(fault));
        }
        self.warnings.push(Problem::at(
            entry.id.line,
            "`limits` are read but not yet enforced by this version",
            "do not rely on them",
        ));
    }

    fn digest(&mut self, hash: &Placed<String>) -> Option<Digest> {
        let digest = Digest::parse(&hash.value)
            .map_err(|error| {
                self.problem(
                    hash.line,
                    format!("`hash` is not a hash: {error}"),
                    "write the line that `faregate token hash` prints",
                );
            })
            .ok()?;
        if let Some(other) = self.digests.insert(*digest.bytes(), hash.line) {
            // Administrators are read first wherever they stand; the later line is the wrong one.
            self.problem(
                hash.line.max(other),
                format!("the same hash stands on line {} already", hash.line.min(other)),
                "one secret belongs to one entry: issue another for this one",
            );
        }
        Some(digest)
    }
}
