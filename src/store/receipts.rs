//! The ledger: signed receipts, which are added and never changed.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use super::StoreError;
use crate::protocol::{ChallengeId, ReceiptId, Timestamp, Visibility};

/// No sum is greater: databases have no integers for more.
pub(super) const MAX_SUM: u64 = i64::MAX as u64;

/// A page of the public list ends before its texts are together longer than so many bytes: anybody may ask for it.
const PAGE_BYTES: usize = 1 << 20;

/// A signed receipt as a ledger keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Its id.
    pub id: ReceiptId,
    /// Whether it was written when a stream began. The final one has the same id, and stands before it. Until that is
    /// there, only its owner may see anything.
    pub provisional: bool,
    /// The receipt that this one adds to: of the payment that was given back, for instance.
    pub parent: Option<ReceiptId>,
    /// The challenge that was paid.
    pub payment: Option<ChallengeId>,
    /// Who may see it.
    pub visibility: Visibility,
    /// When it was made, in whole milliseconds.
    pub created_at: Timestamp,
    /// The whole receipt: canonical JSON with its signature.
    pub full: Arc<str>,
    /// What everybody may see of it, with a signature of its own. `None` where nobody may see anything.
    pub public: Option<Arc<str>>,
    /// What the public list counts: `None` for a receipt that is not listed. It counts only with
    /// [`public`](Self::public), and not while it is provisional.
    pub listed: Option<Listed>,
}

impl fmt::Debug for ReceiptRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiptRow")
            .field("id", &self.id)
            .field("provisional", &self.provisional)
            .field("visibility", &self.visibility)
            .finish_non_exhaustive()
    }
}

impl ReceiptRow {
    /// What counts of it in the public list, with what is shown there.
    pub(crate) fn in_list(&self) -> Option<(&Listed, &Arc<str>)> {
        if self.provisional {
            return None;
        }
        Some((self.listed.as_ref()?, self.public.as_ref()?))
    }

    /// The day on which it was made, see [`Totals::days`]. What is older counts on the first one.
    pub(crate) fn day(&self) -> u32 {
        const DAY: i64 = 86_400_000;
        u32::try_from(self.created_at.unix_millis().div_euclid(DAY).max(0)).unwrap_or(u32::MAX)
    }
}

/// What is counted of a listed receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Under which name it counts: the handle of an agent, or else the model. Empty where neither is known.
    pub name: String,
    /// Whether the call succeeded.
    pub succeeded: bool,
    /// Whether it is of a payment that was delivered. Its failures and its refund are none of their own.
    pub paid: bool,
    /// Tokens in and out, together.
    pub tokens: u64,
}

/// A page of the public list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicPage {
    /// What everybody may see of each, the newest first. They may be fewer than the limit, also where more follow.
    pub receipts: Vec<Arc<str>>,
    /// Where the next page begins. `None` when there is none.
    pub next: Option<u64>,
}

impl PublicPage {
    /// A page of what stands in the list from its beginning on, with the number of each. No more of it is read than
    /// the one that says where the next page begins.
    pub(super) fn read<E>(rows: impl Iterator<Item = Result<(u64, Arc<str>), E>>, limit: usize) -> Result<Self, E> {
        let mut page = Self::default();
        let mut bytes = 0_usize;
        for row in rows {
            let (number, public) = row?;
            bytes = bytes.saturating_add(public.len());
            // One that is longer than a page is a page of its own.
            if page.receipts.len() >= limit || (bytes > PAGE_BYTES && !page.receipts.is_empty()) {
                page.next = Some(number.saturating_add(1));
                break;
            }
            page.receipts.push(public);
        }
        Ok(page)
    }
}

/// Sums over the public list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The names with the most receipts, the most first.
    pub names: Vec<NameTotal>,
    /// How many paid receipts were made on each day (UTC, days since the Unix epoch), the oldest first. Days
    /// without one are left out.
    pub days: Vec<(u32, u64)>,
}

/// The sums under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameTotal {
    /// See [`Listed::name`].
    pub name: String,
    /// How many receipts.
    pub receipts: u64,
    /// How many of them of calls that succeeded.
    pub succeeded: u64,
    /// Their tokens together.
    pub tokens: u64,
}

/// What came of a call, said afterwards. It is added to its receipt and changes nothing in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeRow {
    /// Of which receipt.
    pub receipt: ReceiptId,
    /// When it was said.
    pub created_at: Timestamp,
    /// JSON, as it is given out.
    pub json: Arc<str>,
}

/// Keeps signed receipts.
///
/// # Contract
///
/// * Nothing is ever changed or dropped: a store in a database has the database refuse it.
/// * [`append`](Self::append) is atomic, counts included, and durable before it answers, as far as the store
///   promises durability at all. The same row once more is `Ok` and counts nothing; another one under the same
///   id and the same `provisional` is refused ([`StoreErrorKind::Conflict`](super::StoreErrorKind::Conflict)).
/// * [`get`](Self::get) answers the final receipt where there is one, or else the provisional one.
/// * Only final rows with [`listed`](ReceiptRow::listed) and [`public`](ReceiptRow::public) are in pages and
///   totals. A page begins with what was appended last; paging on from [`next`](PublicPage::next) neither repeats
///   nor leaves out what was there when the first page was read. What comes into the list later stands before
///   all that was in it.
/// * A page may be shorter than its limit, with at least one receipt where there is one and the limit is not 0: go on
///   from [`next`](PublicPage::next), which alone says whether there are more. The stores of this crate end a page
///   before its texts are longer than a mebibyte.
/// * Sums are exact, and stop at 2^63 - 1. Names are compared by all of their bytes; where several have as many
///   receipts they are in the order of their bytes.
/// * "The oldest first" is the order in which rows were appended. Of two that were appended at once either may
///   be the older one.
/// * The same [outcome](Self::append_outcome) once more is `Ok` and adds nothing, so that a lost reply can be
///   repeated.
/// * A limit is obeyed whatever it is: 0 answers nothing, and what is more than there is answers all.
/// * A store may be bounded. One that is full refuses ([`StoreErrorKind::Full`](super::StoreErrorKind::Full))
///   and drops nothing.
///
/// [`conformance`](crate::conformance) checks it.
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not keep signed receipts",
    label = "this must implement `ReceiptStore`",
    note = "`MemoryReceiptStore::new(receipts)` serves one process"
)]
pub trait ReceiptStore: Send + Sync + 'static {
    /// Adds a receipt.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn append(&self, row: ReceiptRow) -> Result<(), StoreError>;

    /// The receipt with this id.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError>;

    /// The final receipts of a payment, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError>;

    /// The final receipts that add to this one, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError>;

    /// A page of the public list: from `before` on, which was [`next`](PublicPage::next), or from the newest. At most
    /// `limit` receipts, and fewer where they are long.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError>;

    /// Sums over the public list: of at most `names` names, and of the days from `since` on (days since the
    /// Unix epoch).
    ///
    /// # Errors
    /// [`StoreError`].
    async fn totals(&self, names: usize, since: u32) -> Result<Totals, StoreError>;

    /// Adds what came of a call.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError>;

    /// What was said to have come of a call, the oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError>;
}

macro_rules! forward_receipts {
    ($($pointer:ident),*) => {$(
        #[async_trait]
        impl<T: ReceiptStore + ?Sized> ReceiptStore for $pointer<T> {
            async fn append(&self, row: ReceiptRow) -> Result<(), StoreError> {
                (**self).append(row).await
            }

            async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
                (**self).get(id).await
            }

            async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
                (**self).of_payment(payment, limit).await
            }

            async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
                (**self).children(parent, limit).await
            }

            async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError> {
                (**self).public_page(before, limit).await
            }

            async fn totals(&self, names: usize, since: u32) -> Result<Totals, StoreError> {
                (**self).totals(names, since).await
            }

            async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError> {
                (**self).append_outcome(outcome).await
            }

            async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
                (**self).outcomes(receipt, limit).await
            }
        }
    )*};
}

forward_receipts!(Arc, Box);
