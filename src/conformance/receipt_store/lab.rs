//! What the laws are written with: a store, instants, receipts, and steps that say what they expect.

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};

pub(super) use crate::conformance::laws::Checked;
use crate::{
    protocol::{ChallengeId, ReceiptId, Timestamp, Visibility},
    store::{Listed, NameTotal, ReceiptRow, ReceiptStore, StoreError, StoreErrorKind, Totals},
};

/// More than any law makes.
pub(super) const MANY: usize = 100_000;

/// A fresh store and the instant at which its law begins.
pub(super) struct Lab {
    pub(super) store: Arc<dyn ReceiptStore>,
    start: Timestamp,
}

impl Lab {
    pub(super) fn new(store: Arc<dyn ReceiptStore>, start: Timestamp) -> Self {
        // Whole milliseconds, as in every receipt.
        let start = Timestamp::from_unix_millis(start.unix_millis()).unwrap_or(start);
        Self { store, start }
    }

    /// The instant `millis` after the beginning.
    pub(super) fn at(&self, millis: u64) -> Timestamp {
        self.start.saturating_add(Duration::from_millis(millis))
    }

    /// The receipt number `n`: in no list, of no payment.
    pub(super) fn private(&self, n: u64) -> ReceiptRow {
        ReceiptRow {
            id: id(n),
            provisional: false,
            parent: None,
            payment: None,
            visibility: Visibility::Private,
            created_at: self.at(n),
            full: format!("{{\"receipt_id\":\"{}\",\"signature\":\"full {n}\"}}", id(n)).into(),
            public: None,
            listed: None,
        }
    }

    /// The receipt number `n`, in the public list under a name.
    pub(super) fn listed(&self, n: u64, name: &str) -> ReceiptRow {
        ReceiptRow {
            visibility: Visibility::PublicMinimal,
            public: Some(public(n)),
            listed: Some(Listed { name: name.to_owned(), succeeded: true, paid: true, tokens: 100 + n }),
            ..self.private(n)
        }
    }

    pub(super) async fn append(&self, what: &str, row: &ReceiptRow) -> Checked {
        self.store.append(row.clone()).await.map_err(|error| format!("{what}: `append` failed: {error}"))
    }

    /// Another receipt stands under this id.
    pub(super) async fn refused(&self, what: &str, row: &ReceiptRow) -> Checked {
        match self.store.append(row.clone()).await {
            Err(error) if error.kind() == StoreErrorKind::Conflict => Ok(()),
            Err(error) => Err(format!("{what}: `append` failed, and not as Conflict: {error}")),
            Ok(()) => Err(format!("{what}: `append` took it")),
        }
    }

    pub(super) async fn get(&self, id: ReceiptId) -> Checked<Option<ReceiptRow>> {
        self.store.get(id).await.map_err(|error| format!("`get` failed: {error}"))
    }

    /// The receipt is there as it was given.
    pub(super) async fn found(&self, what: &str, row: &ReceiptRow) -> Checked {
        match self.get(row.id).await? {
            Some(found) => same(&found, row).map_err(|how| format!("{what}: {how}")),
            None => Err(format!("{what}: it is not found")),
        }
    }

    pub(super) async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Checked<Vec<ReceiptRow>> {
        self.store.of_payment(payment, limit).await.map_err(|error| format!("`of_payment` failed: {error}"))
    }

    pub(super) async fn children(&self, parent: ReceiptId, limit: usize) -> Checked<Vec<ReceiptRow>> {
        self.store.children(parent, limit).await.map_err(|error| format!("`children` failed: {error}"))
    }

    /// A page, and where the next one begins.
    pub(super) async fn page(&self, before: Option<u64>, limit: usize) -> Checked<(Vec<Arc<str>>, Option<u64>)> {
        let page = self.store.public_page(before, limit).await;
        let page = page.map_err(|error| format!("`public_page` failed: {error}"))?;
        Ok((page.receipts, page.next))
    }

    /// The public list, read in pages of so many.
    pub(super) async fn list(&self, limit: usize) -> Checked<Vec<Arc<str>>> {
        self.list_from(None, limit).await
    }

    /// The same, from a place in it on.
    pub(super) async fn list_from(&self, before: Option<u64>, limit: usize) -> Checked<Vec<Arc<str>>> {
        let (mut all, mut next) = self.page(before, limit).await?;
        while let Some(before) = next {
            let (more, after) = self.page(Some(before), limit).await?;
            if more.len() > limit {
                return Err(format!("a page of at most {limit} has {}", more.len()));
            }
            if more.is_empty() || all.len() > MANY {
                return Err(format!("after {} receipts there is a next page without one", all.len()));
            }
            all.extend(more);
            next = after;
        }
        Ok(all)
    }

    pub(super) async fn totals(&self, names: usize, since: u32) -> Checked<Totals> {
        self.store.totals(names, since).await.map_err(|error| format!("`totals` failed: {error}"))
    }

    /// The sums under the names, and the counts of the days.
    pub(super) async fn sums(&self, what: &str, names: &[(&str, u64, u64, u64)], days: &[(u32, u64)]) -> Checked {
        let found = self.totals(MANY, 0).await?;
        let names = names.iter().map(|(name, receipts, succeeded, tokens)| NameTotal {
            name: (*name).to_owned(),
            receipts: *receipts,
            succeeded: *succeeded,
            tokens: *tokens,
        });
        let expected = Totals { names: names.collect(), days: days.to_vec() };
        if found == expected {
            Ok(())
        } else {
            Err(format!("{what}: the totals are {found:?} instead of {expected:?}"))
        }
    }
}

/// Receipts in an order, by their ids.
pub(super) fn in_order(what: &str, found: &[ReceiptRow], expected: &[&ReceiptRow]) -> Checked {
    let ids: Vec<_> = found.iter().map(|row| row.id).collect();
    let wanted: Vec<_> = expected.iter().map(|row| row.id).collect();
    if ids != wanted {
        return Err(format!("{what}: found {ids:?} instead of {wanted:?}"));
    }
    found.iter().zip(expected).try_for_each(|(found, row)| same(found, row).map_err(|how| format!("{what}: {how}")))
}

/// What differs, without all of a mebibyte.
fn same(found: &ReceiptRow, row: &ReceiptRow) -> Checked {
    let differs = |name, found: &str, row: &str| {
        let same = found.bytes().zip(row.bytes()).take_while(|(found, row)| found == row).count();
        let (found, row) = (found.len(), row.len());
        Err(format!("`{name}` of {row} bytes has {found}, of which the first {same} are the same"))
    };
    if found.full != row.full {
        return differs("full", &found.full, &row.full);
    }
    if let (Some(found), Some(row)) = (&found.public, &row.public)
        && found != row
    {
        return differs("public", found, row);
    }
    let fields = |row: &ReceiptRow| {
        let listed = (row.public.is_some(), row.listed.clone());
        (row.id, row.provisional, row.parent, row.payment, row.visibility, row.created_at, listed)
    };
    let (found, row) = (fields(found), fields(row));
    if found == row { Ok(()) } else { Err(format!("found {found:?} instead of {row:?}")) }
}

/// Whether a step was refused for want of room.
pub(super) fn is_full(result: &Result<(), StoreError>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == StoreErrorKind::Full)
}

/// The id number `n`.
pub(super) fn id(n: u64) -> ReceiptId {
    let [id, _] = halves(b"receipt", n);
    ReceiptId::from_bytes(id)
}

/// The payment number `n`.
pub(super) fn payment(n: u64) -> ChallengeId {
    let [one, other] = halves(b"payment", n);
    let mut bytes = [0; 32];
    bytes.iter_mut().zip(one.iter().chain(&other)).for_each(|(byte, given)| *byte = *given);
    ChallengeId::from_bytes(bytes)
}

/// What everybody may see of the receipt number `n`.
pub(super) fn public(n: u64) -> Arc<str> {
    format!("{{\"receipt_id\":\"{}\",\"signature\":\"public {n}\"}}", id(n)).into()
}

fn halves(kind: &[u8], n: u64) -> [[u8; 16]; 2] {
    let digest: [u8; 32] = Sha256::new().chain_update(kind).chain_update(n.to_be_bytes()).finalize().into();
    let (halves, _) = digest.as_chunks::<16>();
    halves.try_into().unwrap_or_default()
}
