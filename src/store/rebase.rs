use crate::policy::Document;
use crate::policy::amend::Edit;

/// The same change made to a document that somebody changed meanwhile; none when they changed the
/// very entry that it is about, so that one of the two would be lost.
pub(super) fn rebased(before: &Document, now: &Document, edit: &Edit) -> Option<Document> {
    let mut document = now.clone();
    match edit {
        Edit::AddToken(entry) => {
            let is_taken = now.tokens.iter().any(|token| token.id == entry.id);
            (!is_taken).then(|| document.tokens.push(entry.clone()))?;
        }
        Edit::SetToken(entry) => {
            let place = untouched_token(before, now, &entry.id.value)?;
            *document.tokens.get_mut(place)? = entry.clone();
        }
        Edit::RemoveToken(id) => {
            document.tokens.remove(untouched_token(before, now, id)?);
        }
        Edit::AddAdmin(entry) => {
            let is_taken = now.admins.iter().any(|admin| admin.name == entry.name);
            (!is_taken).then(|| document.admins.push(entry.clone()))?;
        }
        Edit::RemoveAdmin(name) => {
            let is_named = |admin: &crate::policy::AdminEntry| admin.name.value == *name;
            let place = now.admins.iter().position(is_named)?;
            if before.admins.iter().find(|admin| is_named(admin)) != now.admins.get(place) {
                return None;
            }
            document.admins.remove(place);
        }
    }
    Some(document)
}

/// Where a token stands now that is as it was.
fn untouched_token(before: &Document, now: &Document, id: &str) -> Option<usize> {
    let place = now.tokens.iter().position(|token| token.id.value == id)?;
    let was = before.tokens.iter().find(|token| token.id.value == id)?;
    (now.tokens.get(place) == Some(was)).then_some(place)
}
