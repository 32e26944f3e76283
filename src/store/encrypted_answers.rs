//! Kept answers that cannot be read where they lie.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use rand::RngExt as _;
use zeroize::Zeroize as _;

use super::{AnswerStore, KeptAnswer, Lease, Reservation, StoreError, StoreErrorKind};
use crate::{
    protocol::{ChallengeId, Timestamp},
    trace::TARGET,
};

/// The keys that kept answers are encrypted with: the current one seals, all of them open.
///
/// Every replica needs the same keys. To rotate, put the new key first and keep the old one for as long
/// as answers are kept. Keys are wiped from memory when dropped, and `Debug` prints how many there are.
///
/// ```
/// # use tower_mpp::store::AnswerKeys;
/// # let (new, old) = ([1; 32], [2; 32]);
/// let keys = AnswerKeys::new(new).previous(old);
/// ```
#[derive(Clone)]
pub struct AnswerKeys {
    // The cipher is its key, and wipes it.
    current: XChaCha20Poly1305,
    previous: Vec<XChaCha20Poly1305>,
}

impl AnswerKeys {
    /// One key, which should be random.
    pub fn new(key: [u8; 32]) -> Self {
        Self { current: cipher(key), previous: Vec::new() }
    }

    /// Adds a key that only opens.
    #[must_use]
    pub fn previous(mut self, key: [u8; 32]) -> Self {
        self.previous.push(cipher(key));
        self
    }
}

fn cipher(mut key: [u8; 32]) -> XChaCha20Poly1305 {
    let cipher = XChaCha20Poly1305::new((&key).into());
    key.zeroize();
    cipher
}

impl fmt::Debug for AnswerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnswerKeys({} keys)", self.previous.len() + 1)
    }
}

/// Encrypts what an answer store keeps: XChaCha20-Poly1305 with a random nonce, bound to the challenge
/// and the request of its row.
///
/// An answer that none of the keys opens counts as not kept, with an error event.
///
/// ```
/// use tower_mpp::store::{AnswerKeys, EncryptedAnswers, MemoryAnswerStore};
///
/// # let secret = [7; 32];
/// let answers = EncryptedAnswers::new(MemoryAnswerStore::new(64 * 1024 * 1024), AnswerKeys::new(secret));
/// ```
pub struct EncryptedAnswers<T> {
    inner: T,
    keys: AnswerKeys,
}

/// Another one is another format. It stands before the nonce.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;

impl<T> EncryptedAnswers<T> {
    /// Encrypts what goes into `inner`.
    pub fn new(inner: T, keys: AnswerKeys) -> Self {
        Self { inner, keys }
    }

    fn seal(&self, bound: &[u8; 64], answer: &[u8]) -> Option<Bytes> {
        let nonce = rand::rng().random::<[u8; NONCE_BYTES]>();
        let sealed = self.keys.current.encrypt(&XNonce::from(nonce), Payload { msg: answer, aad: bound }).ok()?;
        Some([&[VERSION], nonce.as_slice(), &sealed].concat().into())
    }

    fn open(&self, bound: &[u8; 64], sealed: &[u8]) -> Option<Bytes> {
        let (nonce, msg) = sealed.strip_prefix(&[VERSION])?.split_first_chunk::<NONCE_BYTES>()?;
        let nonce = XNonce::from(*nonce);
        std::iter::once(&self.keys.current)
            .chain(&self.keys.previous)
            .find_map(|key| key.decrypt(&nonce, Payload { msg, aad: bound }).ok())
            .map(Bytes::from)
    }
}

/// A row cannot be given out for another challenge, or for another request.
fn bound(id: ChallengeId, request: [u8; 32]) -> [u8; 64] {
    let mut bound = [0; 64];
    let (first, second) = bound.split_at_mut(32);
    first.copy_from_slice(id.as_bytes());
    second.copy_from_slice(&request);
    bound
}

#[async_trait]
impl<T: AnswerStore> AnswerStore for EncryptedAnswers<T> {
    async fn reserve(&self, reservation: Reservation) -> Result<(), StoreError> {
        self.inner.reserve(reservation).await
    }

    async fn keep(&self, lease: Lease, answer: Bytes, keep_until: Timestamp) -> Result<(), StoreError> {
        // What was reserved says for which request. Nothing may be forgotten at the beginning of time. Where
        // somebody takes the row over in between, the store inside refuses what is sealed for his request.
        let row = self.inner.look_up(lease.id, Timestamp::EPOCH).await?.ok_or(StoreErrorKind::LeaseLost)?;
        let sealed = self
            .seal(&bound(lease.id, row.request), &answer)
            .ok_or_else(|| StoreError::unavailable("the answer cannot be encrypted"))?;
        self.inner.keep(lease, sealed, keep_until).await
    }

    async fn give_up(&self, lease: Lease) -> Result<(), StoreError> {
        self.inner.give_up(lease).await
    }

    async fn look_up(&self, id: ChallengeId, now: Timestamp) -> Result<Option<KeptAnswer>, StoreError> {
        let Some(mut row) = self.inner.look_up(id, now).await? else { return Ok(None) };
        if let Some(sealed) = row.answer {
            let Some(answer) = self.open(&bound(id, row.request), &sealed) else {
                tracing::error!(target: TARGET, "a kept answer cannot be decrypted: it counts as not kept");
                return Ok(None);
            };
            row.answer = Some(answer);
        }
        Ok(Some(row))
    }

    async fn forget(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.inner.forget(now, limit).await
    }
}

impl<T> fmt::Debug for EncryptedAnswers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedAnswers").field("keys", &self.keys).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{super::MemoryAnswerStore, *};

    const ANSWER: &[u8] = b"private to who has paid";

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix(1_750_000_000).unwrap().saturating_add(Duration::from_secs(seconds))
    }

    fn id(n: u8) -> ChallengeId {
        ChallengeId::from_bytes([n; 32])
    }

    async fn kept(store: &impl AnswerStore, n: u8) {
        let (lease, request) = (Lease { id: id(n), token: 1 }, [9; 32]);
        store.reserve(Reservation { lease, request, now: at(0), until: at(60), keep_until: at(100) }).await.unwrap();
        store.keep(lease, ANSWER.into(), at(100)).await.unwrap();
    }

    async fn answer(store: &impl AnswerStore, n: u8) -> Option<Bytes> {
        store.look_up(id(n), at(1)).await.unwrap().and_then(|row| row.answer)
    }

    #[tokio::test]
    async fn rows_are_sealed_differ_and_open_under_any_key_of_the_ring() {
        let inner = Arc::new(MemoryAnswerStore::new(10_000));
        let old = EncryptedAnswers::new(Arc::clone(&inner), AnswerKeys::new([1; 32]));
        kept(&old, 1).await;
        kept(&old, 2).await;
        let rows = [answer(&inner, 1).await.unwrap(), answer(&inner, 2).await.unwrap()];
        assert!(rows.iter().all(|row| !row.windows(7).any(|part| part == b"private")));
        assert_ne!(rows[0], rows[1]);
        assert_eq!(answer(&old, 1).await.unwrap(), ANSWER);

        let both = EncryptedAnswers::new(Arc::clone(&inner), AnswerKeys::new([2; 32]).previous([1; 32]));
        assert_eq!(answer(&both, 1).await.unwrap(), ANSWER);
        kept(&both, 3).await;
        let new = EncryptedAnswers::new(Arc::clone(&inner), AnswerKeys::new([2; 32]));
        assert_eq!(answer(&new, 3).await.unwrap(), ANSWER);
        assert_eq!(answer(&new, 1).await, None, "its key is gone");
        assert_eq!(answer(&old, 3).await, None);
        assert_eq!(new.look_up(id(1), at(1)).await.unwrap(), None);
        assert_eq!(format!("{both:?}"), "EncryptedAnswers { keys: AnswerKeys(2 keys), .. }");
    }

    #[tokio::test]
    async fn a_row_that_was_touched_or_moved_is_not_kept() {
        let store = EncryptedAnswers::new(Arc::new(MemoryAnswerStore::new(10_000)), AnswerKeys::new([1; 32]));
        let sealed = store.seal(&bound(id(1), [9; 32]), ANSWER).unwrap();
        assert_eq!(store.open(&bound(id(1), [9; 32]), &sealed).unwrap(), ANSWER);
        assert_eq!(store.open(&bound(id(2), [9; 32]), &sealed), None);
        assert_eq!(store.open(&bound(id(1), [8; 32]), &sealed), None);
        for length in 0..sealed.len() {
            assert_eq!(store.open(&bound(id(1), [9; 32]), &sealed[..length]), None);
        }
        for at in 0..sealed.len() {
            let mut touched = sealed.to_vec();
            touched[at] ^= 1;
            assert_eq!(store.open(&bound(id(1), [9; 32]), &touched), None);
        }
        let lost = store.keep(Lease { id: id(7), token: 1 }, ANSWER.into(), at(100)).await.unwrap_err();
        assert_eq!(lost.kind(), StoreErrorKind::LeaseLost);
        assert_eq!(answer(&store, 7).await, None, "nothing was reserved");
    }
}
