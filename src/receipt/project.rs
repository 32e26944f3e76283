//! What everybody may see of a receipt.

use super::ReceiptBody;
use crate::protocol::Visibility;

/// The members of the public projection, or `None` where nobody may see anything.
pub(super) fn public(body: &ReceiptBody) -> Option<ReceiptBody> {
    match body.visibility {
        Visibility::Private => None,
        _ => Some(body.clone()),
    }
}
