//! A ledger of one process, in memory.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{OutcomeRow, PublicPage, ReceiptRow, ReceiptStore, StoreError, StoreErrorKind, Totals};
use crate::protocol::{ChallengeId, ReceiptId};

/// Signed receipts in the memory of one process: for tests and for trying things out. A restart forgets them.
///
/// It holds at most as many receipts as it was made for, and refuses more ([`StoreErrorKind::Full`]).
#[derive(Debug)]
pub struct MemoryReceiptStore {
    capacity: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    rows: Vec<ReceiptRow>,
    places: HashMap<(ReceiptId, bool), usize>,
    outcomes: Vec<OutcomeRow>,
}

impl MemoryReceiptStore {
    /// A ledger of at most so many receipts.
    pub fn new(receipts: usize) -> Self {
        Self { capacity: receipts, table: Mutex::default() }
    }
}

impl Table {
    fn find(&self, id: ReceiptId) -> Option<&ReceiptRow> {
        let place = [false, true].iter().find_map(|provisional| self.places.get(&(id, *provisional)))?;
        self.rows.get(*place)
    }
}

#[async_trait]
impl ReceiptStore for MemoryReceiptStore {
    async fn append(&self, row: ReceiptRow) -> Result<(), StoreError> {
        let table = &mut *self.table.lock();
        if let Some(known) = table.places.get(&(row.id, row.provisional)).and_then(|place| table.rows.get(*place)) {
            return if *known == row { Ok(()) } else { Err(StoreErrorKind::Conflict.into()) };
        }
        if table.rows.len() >= self.capacity {
            return Err(StoreErrorKind::Full.into());
        }
        table.places.insert((row.id, row.provisional), table.rows.len());
        table.rows.push(row);
        Ok(())
    }

    async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
        Ok(self.table.lock().find(id).cloned())
    }

    async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let table = self.table.lock();
        Ok(table
            .rows
            .iter()
            .filter(|row| !row.provisional && row.payment == Some(payment))
            .take(limit)
            .cloned()
            .collect())
    }

    async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let table = self.table.lock();
        Ok(table
            .rows
            .iter()
            .filter(|row| !row.provisional && row.parent == Some(parent))
            .take(limit)
            .cloned()
            .collect())
    }

    async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError> {
        let table = self.table.lock();
        let end = before.and_then(|before| usize::try_from(before).ok()).unwrap_or(usize::MAX);
        let listed =
            table.rows.iter().enumerate().take(end).rev().filter(|(_, row)| !row.provisional && row.listed.is_some());
        let mut page = PublicPage::default();
        for (place, row) in listed {
            if page.receipts.len() == limit {
                page.next = Some(place as u64 + 1);
                break;
            }
            page.receipts.extend(row.public.clone());
        }
        Ok(page)
    }

    async fn totals(&self, _names: usize, _since: u32) -> Result<Totals, StoreError> {
        Ok(Totals::default())
    }

    async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError> {
        self.table.lock().outcomes.push(outcome);
        Ok(())
    }

    async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        let table = self.table.lock();
        Ok(table.outcomes.iter().filter(|row| row.receipt == receipt).take(limit).cloned().collect())
    }
}
