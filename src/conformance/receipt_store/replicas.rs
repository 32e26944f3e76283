//! Two handles of one ledger.

use async_trait::async_trait;

use super::Replicas;
use crate::{
    protocol::{ChallengeId, ReceiptId},
    store::{OutcomeRow, PublicPage, ReceiptRow, ReceiptStore, StoreError, Totals},
};

#[async_trait]
impl<S: ReceiptStore> ReceiptStore for Replicas<S> {
    async fn append(&self, row: ReceiptRow) -> Result<(), StoreError> {
        self.next().append(row).await
    }

    async fn get(&self, id: ReceiptId) -> Result<Option<ReceiptRow>, StoreError> {
        self.next().get(id).await
    }

    async fn of_payment(&self, payment: ChallengeId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.next().of_payment(payment, limit).await
    }

    async fn children(&self, parent: ReceiptId, limit: usize) -> Result<Vec<ReceiptRow>, StoreError> {
        self.next().children(parent, limit).await
    }

    async fn public_page(&self, before: Option<u64>, limit: usize) -> Result<PublicPage, StoreError> {
        self.next().public_page(before, limit).await
    }

    async fn totals(&self, names: usize, since: u32) -> Result<Totals, StoreError> {
        self.next().totals(names, since).await
    }

    async fn append_outcome(&self, outcome: OutcomeRow) -> Result<(), StoreError> {
        self.next().append_outcome(outcome).await
    }

    async fn outcomes(&self, receipt: ReceiptId, limit: usize) -> Result<Vec<OutcomeRow>, StoreError> {
        self.next().outcomes(receipt, limit).await
    }
}
