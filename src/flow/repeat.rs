//! Steps of the stores that are tried more than once.

use std::{future::Future, time::Duration};

use crate::store::{StoreError, StoreErrorKind};

/// Pauses in milliseconds for who waits for the answer.
pub(super) const QUICK: &[u64] = &[50, 500];
/// For money that has moved and is not written down yet.
pub(super) const SETTLED: &[u64] = &[50, 250, 1000];
/// For what nobody waits for and would otherwise take a lease to be free again.
pub(super) const PATIENT: &[u64] = &[50, 250, 1000, 5000];
/// For what would otherwise stay wrong: some minutes.
pub(super) const LONG: &[u64] = &[50, 250, 1000, 5000, 15_000, 30_000, 60_000, 60_000];

/// Repeats a step that can be repeated, with a pause between two tries, as long as the store cannot be
/// reached. `failed` hears of every try that has failed.
pub(super) async fn insist<T, F>(
    pauses: &[u64],
    failed: impl Fn(&StoreError),
    step: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pauses = pauses.iter().copied().map(Duration::from_millis);
    loop {
        let error = match step().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        failed(&error);
        match pauses.next() {
            Some(pause) if error.kind() == StoreErrorKind::Unavailable => tokio::time::sleep(pause).await,
            _ => return Err(error),
        }
    }
}
