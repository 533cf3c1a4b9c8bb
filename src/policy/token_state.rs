use serde::{Serialize, Serializer};

use super::document::Moment;

/// What an administrator reads of a token at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenState {
    /// It may be used.
    Active,
    /// Its end has come.
    Expired,
    /// It is switched off.
    Disabled,
}

impl TokenState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Active, Self::Expired, Self::Disabled];

    /// The state of a token. One that is switched off is `Disabled` even when it has expired too:
    /// switching it on is then the first thing to do.
    #[must_use]
    pub fn of(disabled: bool, expires_at: Option<Moment>, now: Moment) -> Self {
        if disabled {
            Self::Disabled
        } else if expires_at.is_some_and(|end| now >= end) {
            Self::Expired
        } else {
            Self::Active
        }
    }

    /// As it is written in JSON, metrics and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
        }
    }
}

impl Serialize for TokenState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disabled_wins_and_the_last_second_is_the_one_before_the_end() {
        let end = Some(Moment(100));
        for (disabled, expires_at, now, state) in [
            (false, None, 100, "active"),
            (false, end, 99, "active"),
            (false, end, 100, "expired"),
            (true, end, 99, "disabled"),
            (true, end, 100, "disabled"),
            (true, None, 100, "disabled"),
        ] {
            assert_eq!(TokenState::of(disabled, expires_at, Moment(now)).as_str(), state);
        }
        assert_eq!(TokenState::ALL.map(TokenState::as_str), ["active", "expired", "disabled"]);
    }
}
