//! A ledger that is easy to see through: a list behind a lock. It is right with [`Bug::None`], and wrong in one way
//! with any other.

use std::{collections::BTreeMap, sync::Mutex};

use async_trait::async_trait;
use tower_mpp::{
    protocol::{ChallengeId, ReceiptId, Timestamp, Visibility},
    store::{Listed, NameTotal, OutcomeRow, PublicPage, ReceiptRow, ReceiptStore, StoreError, StoreErrorKind, Totals},
};

/// What is wrong with a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    CutAt64KiB,
    CutAtZero,
    Trims,
    Recomposes,
    TokensAreSigned,
    SecondsOnly,
    LosesListing,
    RepeatIsConflict,
    RepeatCounts,
    RepeatIsListed,
    LastWins,
    FirstWinsSilently,
    ComparesTextOnly,
    ConflictCounts,
    LookThenWrite,
    LastStandsBefore,
    ProvisionalStandsBefore,
    FinalReplacesOnly,
    ListsProvisional,
    CountsProvisional,
    ProvisionalOfPayment,
    IdsCutShort,
    IdsCaseFolded,
    PaymentsCutShort,
    KeepsLast500,
    OutcomeTouchesReceipt,
    PaymentByTime,
    PaymentNewestFirst,
    ChildrenById,
    ChildrenNeedParent,
    LimitOfOne,
    LimitOverflows,
    ListIgnoresLimit,
    PageByTime,
    PageOldestFirst,
    PageForever,
    PageLosesOne,
    PageRepeatsOne,
    PageDropsLarge,
    ListsWithoutPublic,
    PageByOffset,
    NumbersBeforeCommit,
    NamesCaseFolded,
    NamesTrimmed,
    NamesByName,
    CountsFailures,
    CountsUnlisted,
    DaysUnpaid,
    DaysRounded,
    DaysAfterSince,
    SumsRace,
    SumsWrap,
    OutcomesByTime,
    OutcomesNeedReceipt,
    OutcomesReplace,
    OutcomesRepeat,
    OutcomesOncePerInstant,
    EvictsOldest,
    NeverFull,
    FullForgetsConflicts,
    FullCounts,
}

/// What is on the pages.
#[derive(Clone, Default)]
struct Book {
    /// With the number of each, which is its place in the public list.
    rows: Vec<(u64, ReceiptRow)>,
    outcomes: Vec<OutcomeRow>,
    /// What counted: the row, and how it is counted.
    counted: Vec<ReceiptRow>,
    next: u64,
}

/// The list behind a lock, with room for so many receipts.
pub(crate) struct Binder {
    book: Mutex<Book>,
    capacity: usize,
    bug: Bug,
}

const MOST: u64 = i64::MAX as u64;

impl Binder {
    pub(crate) fn new(capacity: usize, bug: Bug) -> Self {
        Self { book: Mutex::default(), capacity, bug }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    /// What a careless store makes of a text.
    fn text(&self, text: &str) -> String {
        match self.bug {
            Bug::CutAt64KiB => text.chars().take(65_535).collect(),
            Bug::CutAtZero => text.chars().take_while(|character| *character != '\0').collect(),
            Bug::Trims => text.trim_end().to_owned(),
            Bug::Recomposes => text.replace("e\u{301}", "\u{e9}"),
            _ => text.to_owned(),
        }
    }

    fn written(&self, mut row: ReceiptRow) -> ReceiptRow {
        row.full = self.text(&row.full).into();
        row.public = row.public.map(|public| self.text(&public).into());
        match self.bug {
            Bug::TokensAreSigned => {
                row.listed = row.listed.map(|listed| Listed { tokens: listed.tokens.min(MOST), ..listed });
            }
            Bug::SecondsOnly => row.created_at = row.created_at.truncated(),
            Bug::LosesListing if row.provisional => row.listed = None,
            _ => {}
        }
        row
    }

    fn id(&self, id: ReceiptId) -> [u8; 16] {
        let mut bytes = *id.as_bytes();
        match self.bug {
            Bug::IdsCutShort => bytes[8..].fill(0),
            Bug::IdsCaseFolded => bytes.make_ascii_lowercase(),
            _ => {}
        }
        bytes
    }

    fn payment(&self, payment: ChallengeId) -> [u8; 32] {
        let mut bytes = *payment.as_bytes();
        if self.is(Bug::PaymentsCutShort) {
            bytes[16..].fill(0);
        }
        bytes
    }

    fn limit(&self, limit: usize) -> usize {
        match self.bug {
            Bug::LimitOfOne => limit.max(1),
            Bug::LimitOverflows => usize::try_from(limit as i32).unwrap_or(0),
            _ => limit,
        }
    }

    fn in_list(&self, row: &ReceiptRow) -> bool {
        (!row.provisional || self.is(Bug::ListsProvisional))
            && row.listed.is_some()
            && (row.public.is_some() || self.is(Bug::ListsWithoutPublic))
    }

    fn counts(&self, row: &ReceiptRow) -> bool {
        let provisional = row.provisional && !self.is(Bug::CountsProvisional);
        !provisional && row.listed.is_some() && (row.public.is_some() || self.is(Bug::CountsUnlisted))
    }

    fn count(&self, book: &mut Book, row: &ReceiptRow) {
        if self.counts(row) {
            book.counted.push(row.clone());
        }
    }

    fn knows(&self, known: &ReceiptRow, row: &ReceiptRow) -> bool {
        match self.bug {
            Bug::FinalReplacesOnly | Bug::LastStandsBefore => {
                known.id == row.id && known.provisional == row.provisional
            }
            _ => self.id(known.id) == self.id(row.id) && known.provisional == row.provisional,
        }
    }

    /// Writes it down, with a number that was drawn before or is drawn now.
    fn add(&self, book: &mut Book, number: Option<u64>, row: ReceiptRow) -> Result<(), StoreError> {
        let row = self.written(row);
        if self.is(Bug::ConflictCounts) {
            self.count(book, &row);
        }
        let full = book.rows.len() >= self.capacity && !self.is(Bug::NeverFull);
        if full && self.is(Bug::FullCounts) {
            self.count(book, &row);
        }
        if full && self.is(Bug::FullForgetsConflicts) {
            return Err(StoreErrorKind::Full.into());
        }
        if self.is(Bug::FinalReplacesOnly)
            && row.provisional
            && book.rows.iter().any(|(_, known)| known.id == row.id && !known.provisional)
        {
            return Err(StoreErrorKind::Conflict.into());
        }
        if let Some(place) = book.rows.iter().position(|(_, known)| self.knows(known, &row)) {
            let known = book.rows[place].1.clone();
            let same = if self.is(Bug::ComparesTextOnly) { known.full == row.full } else { known == row };
            match self.bug {
                Bug::RepeatCounts if same => self.count(book, &row),
                Bug::RepeatIsListed if same => {
                    let number = book.next;
                    book.next += 1;
                    book.rows.push((number, row));
                }
                Bug::RepeatIsConflict => return Err(StoreErrorKind::Conflict.into()),
                Bug::LastWins => book.rows[place].1 = row,
                Bug::FirstWinsSilently => {}
                _ if same => {}
                _ => return Err(StoreErrorKind::Conflict.into()),
            }
            return Ok(());
        }
        if full {
            if !self.is(Bug::EvictsOldest) {
                return Err(StoreErrorKind::Full.into());
            }
            book.rows.remove(0);
        }
        if self.is(Bug::KeepsLast500) && book.rows.len() >= 500 {
            book.rows.remove(0);
        }
        if !self.is(Bug::ConflictCounts) {
            self.count(book, &row);
        }
        let number = number.unwrap_or(book.next);
        book.next = book.next.max(number) + 1;
        book.rows.push((number, row));
        Ok(())
    }

    /// Final receipts that somebody asks for.
    fn finals(&self, asked_for: impl Fn(&ReceiptRow) -> bool) -> Vec<ReceiptRow> {
        let book = self.book.lock().unwrap();
        let rows = book.rows.iter().map(|(_, row)| row);
        let provisional = self.is(Bug::ProvisionalOfPayment);
        rows.filter(|row| (provisional || !row.provisional) && asked_for(row)).cloned().collect()
    }

    fn name(&self, name: &str) -> String {
        match self.bug {
            Bug::NamesCaseFolded => name.to_lowercase(),
            Bug::NamesTrimmed => name.trim().to_owned(),
            _ => name.to_owned(),
        }
    }
}

#[async_trait]
impl ReceiptStore for Binder {
    async fn append(&self, row: ReceiptRow) -> Result<(), StoreError> {
        match self.bug {
            Bug::LookThenWrite => {
                let mut seen = self.book.lock().unwrap().clone();
                tokio::task::yield_now().await;
                let done = self.add(&mut seen, None, row);
                *self.book.lock().unwrap() = seen;
                done
            }
            Bug::SumsRace => {
                let counted = self.book.lock().unwrap().counted.clone();
                tokio::task::yield_now().await;
                let book = &mut *self.book.lock().unwrap();
                let before = book.counted.len();
                self.add(book, None, row)?;
                let mine = book.counted.split_off(before);
                book.counted = counted.into_iter().chain(mine).collect();
                Ok(())
            }
            Bug::NumbersBeforeCommit => {
                let number = {
                    let book = &mut *self.book.lock().unwrap();
                    book.next += 1;
                    book.next - 1
                };
                for _ in 0..row.full.len() / 10_000 {
                    tokio::task::yield_now().await;
                }
                self.add(&mut self.book.lock().unwrap(), Some(number), row)
            }
            _ => self.add(&mut self.book.lock().unwrap(), None, row),
        }
    }

    async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
        let book = self.book.lock().unwrap();
        let id = self.id(id);
        let mut found: Vec<_> = book.rows.iter().map(|(_, row)| row).filter(|row| self.id(row.id) == id).collect();
        match self.bug {
            Bug::LastStandsBefore => found.reverse(),
            Bug::ProvisionalStandsBefore => found.sort_by_key(|row| !row.provisional),
            _ => found.sort_by_key(|row| row.provisional),
        }
        Ok(found.first().map(|row| (*row).clone()))
    }

    async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        let payment = self.payment(payment);
        let mut rows = self.finals(|row| row.payment.is_some_and(|known| self.payment(known) == payment));
        match self.bug {
            Bug::PaymentByTime => rows.sort_by_key(|row| row.created_at),
            Bug::PaymentNewestFirst => rows.reverse(),
            _ => {}
        }
        rows.truncate(self.limit(limit));
        Ok(rows)
    }

    async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        if self.is(Bug::ChildrenNeedParent) && self.get(parent).await?.is_none() {
            return Ok(Vec::new());
        }
        let mut rows = self.finals(|row| row.parent == Some(parent));
        if self.is(Bug::ChildrenById) {
            rows.sort_by_key(|row| row.id);
        }
        rows.truncate(if self.is(Bug::ListIgnoresLimit) { usize::MAX } else { limit });
        Ok(rows)
    }

    async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError> {
        let book = self.book.lock().unwrap();
        let mut rows: Vec<_> = book.rows.iter().filter(|(_, row)| self.in_list(row)).collect();
        match self.bug {
            Bug::PageByTime => rows.sort_by_key(|(_, row)| row.created_at),
            Bug::PageOldestFirst => rows.sort_by_key(|(number, _)| std::cmp::Reverse(*number)),
            _ => rows.sort_by_key(|(number, _)| *number),
        }
        rows.reverse();
        if self.is(Bug::PageByOffset) {
            let skip = before.map_or(0, |before| usize::try_from(MOST - before.min(MOST)).unwrap());
            let next = (rows.len() > skip.saturating_add(limit)).then(|| MOST - (skip + limit) as u64);
            let rows = rows.iter().skip(skip).take(limit);
            return Ok(PublicPage { receipts: rows.filter_map(|(_, row)| row.public.clone()).collect(), next });
        }
        // Places in an order, whatever it is.
        let start =
            before.map_or(0, |before| rows.iter().position(|(number, _)| *number < before).unwrap_or(rows.len()));
        let rows = &rows[start..];
        let next = rows.get(limit).map(|(number, _)| match self.bug {
            Bug::PageLosesOne => *number,
            Bug::PageRepeatsOne => number + 2,
            _ => number + 1,
        });
        let next = next.or_else(|| rows.last().filter(|_| self.is(Bug::PageForever)).map(|(number, _)| *number));
        let receipts = rows.iter().take(limit).map(|(_, row)| row.public.clone().unwrap_or_default());
        let mut receipts: Vec<_> = receipts.collect();
        if self.is(Bug::PageDropsLarge) {
            // Ends where it is long enough, and goes on after what it was asked for.
            let mut bytes = 0;
            receipts.retain(|public| {
                bytes += public.len();
                bytes <= 1 << 20
            });
        }
        Ok(PublicPage { receipts, next })
    }

    async fn totals(&self, names: usize, since: u32) -> Result<Totals, StoreError> {
        let book = self.book.lock().unwrap();
        let mut sums = BTreeMap::<String, NameTotal>::new();
        let mut days = BTreeMap::<u32, u64>::new();
        for row in &book.counted {
            let Some(listed) = &row.listed else { continue };
            let name = self.name(&listed.name);
            let sum = sums.entry(name.clone()).or_insert_with(|| NameTotal { name, ..NameTotal::default() });
            sum.receipts += 1;
            sum.succeeded += u64::from(listed.succeeded || self.is(Bug::CountsFailures));
            sum.tokens = match self.bug {
                Bug::SumsWrap => sum.tokens.wrapping_add(listed.tokens),
                _ => sum.tokens.saturating_add(listed.tokens).min(MOST),
            };
            if listed.paid || self.is(Bug::DaysUnpaid) {
                let shift = if self.is(Bug::DaysRounded) { 43_200 } else { 0 };
                let day = (row.created_at.unix() + shift).div_euclid(86_400);
                *days.entry(u32::try_from(day).unwrap()).or_default() += 1;
            }
        }
        let mut sums: Vec<_> = sums.into_values().collect();
        if !self.is(Bug::NamesByName) {
            sums.sort_by_key(|sum| std::cmp::Reverse(sum.receipts));
        }
        sums.truncate(names);
        let since = if self.is(Bug::DaysAfterSince) { since.saturating_add(1) } else { since };
        Ok(Totals { names: sums, days: days.range(since..).map(|(day, paid)| (*day, *paid)).collect() })
    }

    async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError> {
        let book = &mut *self.book.lock().unwrap();
        if self.is(Bug::OutcomesNeedReceipt) && !book.rows.iter().any(|(_, row)| row.id == outcome.receipt) {
            return Err(StoreErrorKind::Conflict.into());
        }
        if self.is(Bug::OutcomeTouchesReceipt) {
            let touched = book.rows.iter_mut().filter(|(_, row)| row.id == outcome.receipt);
            touched.for_each(|(_, row)| row.visibility = Visibility::PublicFull);
        }
        if self.is(Bug::OutcomesReplace) {
            book.outcomes.retain(|known| known.receipt != outcome.receipt);
        }
        let instant = |row: &OutcomeRow| (row.receipt, row.created_at);
        let known = match self.bug {
            Bug::OutcomesRepeat => false,
            Bug::OutcomesOncePerInstant => book.outcomes.iter().any(|known| instant(known) == instant(&outcome)),
            _ => book.outcomes.contains(&outcome),
        };
        if !known {
            book.outcomes.push(outcome);
        }
        Ok(())
    }

    async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        let book = self.book.lock().unwrap();
        let mut found: Vec<_> = book.outcomes.iter().filter(|row| row.receipt == receipt).cloned().collect();
        if self.is(Bug::OutcomesByTime) {
            found.sort_by_key(|row: &OutcomeRow| -> Timestamp { row.created_at });
        }
        found.truncate(limit);
        Ok(found)
    }
}
