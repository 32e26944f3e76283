//! A ledger of one process, in memory.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    Listed, NameTotal, OutcomeRow, PublicPage, ReceiptRow, ReceiptStore, StoreError, StoreErrorKind, Totals,
    receipts::MAX_SUM,
};
use crate::protocol::{ChallengeId, ReceiptId, Timestamp};

/// Signed receipts in the memory of one process: for tests and for trying things out. A restart forgets them, and
/// a second replica does not see them.
///
/// It holds at most as many receipts as it was made for, provisional ones too, and as many outcomes. It refuses more
/// ([`StoreErrorKind::Full`]) and never drops one to make room.
pub struct MemoryReceiptStore {
    capacity: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// In the order in which they were appended. What is said of places below is said of these.
    rows: Vec<ReceiptRow>,
    places: HashMap<(ReceiptId, bool), usize>,
    payments: HashMap<ChallengeId, Vec<usize>>,
    parents: HashMap<ReceiptId, Vec<usize>>,
    /// The public list, the oldest first.
    listed: Vec<usize>,
    names: HashMap<Arc<str>, Sums>,
    /// The names, the one with the most receipts first.
    ranks: BTreeSet<(Reverse<u64>, Arc<str>)>,
    days: BTreeMap<u32, u64>,
    outcomes: HashMap<ReceiptId, Vec<OutcomeRow>>,
    /// All outcomes, to know one that comes again.
    said: HashSet<(ReceiptId, Timestamp, Arc<str>)>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    receipts: u64,
    succeeded: u64,
    tokens: u64,
}

impl MemoryReceiptStore {
    /// A ledger of at most so many receipts.
    pub fn new(receipts: usize) -> Self {
        Self { capacity: receipts, table: Mutex::default() }
    }

    /// How many receipts it holds, provisional ones too.
    pub fn len(&self) -> usize {
        self.table.lock().rows.len()
    }

    /// Whether it holds no receipt.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Table {
    fn at(&self, place: usize) -> Option<&ReceiptRow> {
        self.rows.get(place)
    }

    fn find(&self, id: ReceiptId) -> Option<&ReceiptRow> {
        let place = [false, true].iter().find_map(|provisional| self.places.get(&(id, *provisional)))?;
        self.at(*place)
    }

    fn add(&mut self, row: ReceiptRow) {
        let place = self.rows.len();
        self.places.insert((row.id, row.provisional), place);
        if !row.provisional {
            if let Some(payment) = row.payment {
                self.payments.entry(payment).or_default().push(place);
            }
            if let Some(parent) = row.parent {
                self.parents.entry(parent).or_default().push(place);
            }
        }
        if let Some((listed, _)) = row.in_list() {
            self.listed.push(place);
            self.count(listed, row.day());
        }
        self.rows.push(row);
    }

    fn count(&mut self, listed: &Listed, day: u32) {
        let name = match self.names.get_key_value(&*listed.name) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(&*listed.name),
        };
        let sums = self.names.entry(Arc::clone(&name)).or_default();
        self.ranks.remove(&(Reverse(sums.receipts), Arc::clone(&name)));
        sums.receipts += 1;
        sums.succeeded += u64::from(listed.succeeded);
        sums.tokens = sums.tokens.saturating_add(listed.tokens).min(MAX_SUM);
        self.ranks.insert((Reverse(sums.receipts), name));
        if listed.paid {
            *self.days.entry(day).or_default() += 1;
        }
    }

    fn rows_at(&self, places: Option<&Vec<usize>>, limit: usize) -> Vec<ReceiptRow> {
        let places = places.into_iter().flatten().take(limit);
        places.filter_map(|place| self.at(*place)).cloned().collect()
    }
}

#[async_trait]
impl ReceiptStore for MemoryReceiptStore {
    async fn append(&self, row: ReceiptRow) -> Result<(), StoreError> {
        let table = &mut *self.table.lock();
        if let Some(known) = table.places.get(&(row.id, row.provisional)).and_then(|place| table.at(*place)) {
            return if *known == row { Ok(()) } else { Err(StoreErrorKind::Conflict.into()) };
        }
        if table.rows.len() >= self.capacity {
            return Err(StoreErrorKind::Full.into());
        }
        table.add(row);
        Ok(())
    }

    async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
        Ok(self.table.lock().find(id).cloned())
    }

    async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let table = self.table.lock();
        Ok(table.rows_at(table.payments.get(&payment), limit))
    }

    async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let table = self.table.lock();
        Ok(table.rows_at(table.parents.get(&parent), limit))
    }

    async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError> {
        let table = self.table.lock();
        let before = before.unwrap_or(u64::MAX);
        let end = table.listed.partition_point(|place| (*place as u64) < before);
        let older = table.listed.iter().take(end).rev();
        PublicPage::read(older.filter_map(|place| Some(Ok((*place as u64, table.at(*place)?.public.clone()?)))), limit)
    }

    async fn totals(&self, names: usize, since: u32) -> Result<Totals, StoreError> {
        let table = self.table.lock();
        let total = |name: &Arc<str>| {
            let Sums { receipts, succeeded, tokens } = table.names.get(name).copied().unwrap_or_default();
            NameTotal { name: name.to_string(), receipts, succeeded, tokens }
        };
        Ok(Totals {
            names: table.ranks.iter().take(names).map(|(_, name)| total(name)).collect(),
            days: table.days.range(since..).map(|(day, paid)| (*day, *paid)).collect(),
        })
    }

    async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError> {
        let table = &mut *self.table.lock();
        let key = (outcome.receipt, outcome.created_at, Arc::clone(&outcome.json));
        if table.said.contains(&key) {
            return Ok(());
        }
        if table.said.len() >= self.capacity {
            return Err(StoreErrorKind::Full.into());
        }
        table.said.insert(key);
        table.outcomes.entry(outcome.receipt).or_default().push(outcome);
        Ok(())
    }

    async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        let table = self.table.lock();
        Ok(table.outcomes.get(&receipt).into_iter().flatten().take(limit).cloned().collect())
    }
}

impl fmt::Debug for MemoryReceiptStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.lock();
        f.debug_struct("MemoryReceiptStore")
            .field("capacity", &self.capacity)
            .field("receipts", &table.rows.len())
            .field("outcomes", &table.said.len())
            .finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::Visibility;

    fn row(n: u8) -> ReceiptRow {
        ReceiptRow {
            id: ReceiptId::from_bytes([n; 16]),
            provisional: false,
            parent: None,
            payment: Some(ChallengeId::from_bytes([n; 32])),
            visibility: Visibility::PublicMinimal,
            created_at: Timestamp::from_unix(86_400 * i64::from(n)).unwrap(),
            full: format!("full {n}").into(),
            public: Some(format!("public {n}").into()),
            listed: Some(Listed { name: "agent".into(), succeeded: true, paid: true, tokens: 10 }),
        }
    }

    fn outcome(n: u8) -> OutcomeRow {
        OutcomeRow { receipt: row(1).id, created_at: row(n).created_at, json: format!("{n}").into() }
    }

    #[tokio::test]
    async fn it_is_bounded_and_knows_what_it_has_when_it_is_full() {
        let store = MemoryReceiptStore::new(2);
        store.append(row(1)).await.unwrap();
        store.append(ReceiptRow { provisional: true, ..row(2) }).await.unwrap();
        assert_eq!(store.append(row(2)).await.unwrap_err().kind(), StoreErrorKind::Full);
        store.append(row(1)).await.unwrap();
        let other = ReceiptRow { full: "other".into(), ..row(1) };
        assert_eq!(store.append(other).await.unwrap_err().kind(), StoreErrorKind::Conflict);
        for n in [1, 2, 2, 1] {
            store.append_outcome(outcome(n)).await.unwrap();
        }
        assert_eq!(store.append_outcome(outcome(3)).await.unwrap_err().kind(), StoreErrorKind::Full);
        store.append_outcome(outcome(2)).await.unwrap();
        assert_eq!(store.outcomes(row(1).id, 10).await.unwrap(), [outcome(1), outcome(2)]);
        assert_eq!(format!("{store:?}"), "MemoryReceiptStore { capacity: 2, receipts: 2, outcomes: 2 }");
    }

    #[tokio::test]
    async fn names_change_places_as_they_are_counted() {
        let store = MemoryReceiptStore::new(100);
        let named = |n, name: &str| {
            let listed = Listed { name: name.into(), ..row(n).listed.unwrap() };
            ReceiptRow { listed: Some(listed), ..row(n) }
        };
        for (n, name) in (1..).zip(["b", "a", "c", "c", "a", "c"]) {
            store.append(named(n, name)).await.unwrap();
        }
        let names = async |limit| {
            let totals = store.totals(limit, 5).await.unwrap();
            assert_eq!(totals.days, [(5, 1), (6, 1)]);
            totals.names.into_iter().map(|total| (total.name, total.receipts)).collect::<Vec<_>>()
        };
        let all = [("c".into(), 3), ("a".into(), 2), ("b".into(), 1)];
        assert_eq!(names(9).await, all);
        assert_eq!(names(1).await, all.first_chunk::<1>().unwrap());
        assert_eq!(store.table.lock().ranks.len(), 3);
    }

    /// Anybody may ask for a page: what it takes is bounded by its bytes too.
    #[tokio::test]
    async fn a_page_of_large_receipts_ends_at_a_mebibyte() {
        let store = MemoryReceiptStore::new(100);
        for n in 0..10 {
            let public = "x".repeat(if n == 9 { 3 << 20 } else { 300 << 10 });
            store.append(ReceiptRow { public: Some(public.into()), ..row(n) }).await.unwrap();
        }
        let mut next = None;
        let mut pages = Vec::new();
        loop {
            let page = store.public_page(next, 100).await.unwrap();
            pages.push(page.receipts.len());
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(pages, [1, 3, 3, 3]);
        assert_eq!(store.public_page(None, 0).await.unwrap().receipts.len(), 0);
    }
}
