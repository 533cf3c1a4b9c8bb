//! Rule 6: whose token it is, and whether that is valid.

use super::{Ask, Caller, Known, SecretUsed, TokenIndex};
use crate::policy::compile::{Holder, Policy, Token};
use crate::policy::document::Moment;
use crate::policy::explanation::Witness;
use crate::policy::reason::Reason;
use crate::token::Digest;

impl Policy {
    pub(super) fn identify(
        &self,
        ask: &Ask<'_>,
        known: &mut Known,
        witness: &mut impl Witness,
    ) -> Result<&Token, Reason> {
        let outcome = self.holder_of(ask);
        let (index, valid_until, digest) = match outcome {
            Ok(holder) => holder,
            Err(reason) => {
                witness.saw("token", || match reason {
                    Reason::NoCredential => "no credential was presented".into(),
                    _ => "no token is known by this credential or id".into(),
                });
                return Err(reason);
            }
        };
        let token = self.tokens.get(index as usize).ok_or(Reason::UnknownToken)?;
        if let Caller::Secret { user, .. } = ask.caller
            && !user.is_empty()
            && user != token.id.as_str()
        {
            return Err(Reason::UnknownToken);
        }
        let used = if valid_until.is_some() { SecretUsed::Previous } else { SecretUsed::Current };
        known.token = Some((TokenIndex(index), used));
        let refused = if token.disabled {
            Some(Reason::DisabledToken)
        } else if token.expires_at.is_some_and(|end| ask.now >= end) {
            Some(Reason::ExpiredToken)
        } else if valid_until.is_some_and(|end| ask.now >= end) {
            // The secret is gone, whoever's it was.
            Some(Reason::UnknownToken)
        } else {
            None
        };
        witness.saw("token", || match refused {
            Some(reason) => format!("`{}` is refused: {}", token.id, reason.as_str()),
            None => format!("`{}` is known and valid", token.id),
        });
        match refused {
            Some(reason) => Err(reason),
            None => {
                known.digest = digest;
                Ok(token)
            }
        }
    }

    fn holder_of(&self, ask: &Ask<'_>) -> Result<(u32, Option<Moment>, Option<Digest>), Reason> {
        match ask.caller {
            Caller::Nobody => Err(Reason::NoCredential),
            Caller::Secret { secret, .. } => {
                let Holder { digest, token, valid_until } =
                    self.holder(secret).ok_or(Reason::UnknownToken)?;
                Ok((token, valid_until, Some(digest)))
            }
            Caller::Known(id) => {
                let token = self.token_named(id).ok_or(Reason::UnknownToken)?;
                Ok((token, None, None))
            }
        }
    }
}
