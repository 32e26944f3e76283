//! A receipt as the databases keep it.

use std::sync::Arc;

use super::{
    Listed, PublicPage, ReceiptRow, StoreError,
    receipts::MAX_SUM,
    row::{instant, unreadable},
};
use crate::protocol::{ChallengeId, ReceiptId, Visibility};

/// The columns of a receipt.
pub(super) struct Columns {
    pub(super) id: [u8; 16],
    pub(super) provisional: bool,
    pub(super) parent: Option<[u8; 16]>,
    pub(super) payment: Option<[u8; 32]>,
    /// See [`Visibility::as_str`].
    pub(super) visibility: String,
    /// In milliseconds since the Unix epoch.
    pub(super) created_at: i64,
    /// `None` with the next three where nothing is counted.
    pub(super) name: Option<String>,
    pub(super) succeeded: Option<bool>,
    pub(super) paid: Option<bool>,
    /// See [`bits`].
    pub(super) tokens: Option<i64>,
    pub(super) public: Option<String>,
    pub(super) full: String,
}

impl Columns {
    pub(super) fn receipt(self) -> Result<ReceiptRow, StoreError> {
        const ALL: [Visibility; 5] = [
            Visibility::Private,
            Visibility::PublicDemo,
            Visibility::PublicMinimal,
            Visibility::PublicRedacted,
            Visibility::PublicFull,
        ];
        let visibility = ALL.into_iter().find(|known| known.as_str() == self.visibility).ok_or_else(unreadable)?;
        let listed = match (self.name, self.succeeded, self.paid, self.tokens) {
            (Some(name), Some(succeeded), Some(paid), Some(tokens)) => {
                Some(Listed { name, succeeded, paid, tokens: tokens.cast_unsigned() })
            }
            (None, None, None, None) => None,
            _ => return Err(unreadable()),
        };
        Ok(ReceiptRow {
            id: ReceiptId::from_bytes(self.id),
            provisional: self.provisional,
            parent: self.parent.map(ReceiptId::from_bytes),
            payment: self.payment.map(ChallengeId::from_bytes),
            visibility,
            created_at: instant(self.created_at)?,
            full: Arc::from(self.full),
            public: self.public.map(Arc::from),
            listed,
        })
    }
}

/// Whether a row is the one that is kept. Databases keep instants in whole milliseconds.
#[cfg(feature = "sqlite")]
pub(super) fn is_same(known: &ReceiptRow, row: &ReceiptRow) -> bool {
    let millis = row.created_at.unix_millis();
    known.created_at.unix_millis() == millis && *known == ReceiptRow { created_at: known.created_at, ..row.clone() }
}

/// A number of tokens in its column: the same 64 bits, so that it comes back as it was given.
pub(super) fn bits(tokens: u64) -> i64 {
    tokens.cast_signed()
}

/// What a number of tokens adds to a sum.
pub(super) fn counted(tokens: u64) -> i64 {
    tokens.min(MAX_SUM).cast_signed()
}

/// A sum that was kept.
pub(super) fn sum(sum: i64) -> Result<u64, StoreError> {
    u64::try_from(sum).map_err(|_| unreadable())
}

/// Where a page ends that begins at a cursor: before the row with this number.
pub(super) fn end(before: Option<u64>) -> i64 {
    before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX))
}

/// How many rows to read for a page of so many: one more says whether there is another page.
pub(super) fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

/// A page of what is read for it, with the numbers of the rows.
pub(super) fn page<E: From<StoreError>>(
    rows: impl Iterator<Item = Result<(i64, Arc<str>), E>>,
    limit: usize,
) -> Result<PublicPage, E> {
    let numbered = |row| {
        let (number, public) = row?;
        Ok((sum(number)?, public))
    };
    PublicPage::read(rows.map(numbered), limit)
}
