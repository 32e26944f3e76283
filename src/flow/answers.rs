//! `Idempotency-Key`: a paid answer is kept, and given again to whoever presents the same key and the
//! same credential for the same request.
//!
//! Nothing here moves money or decides about single use: when it fails, the answer is that of a request
//! without the header. What must not happen is that an answer is kept which the journal's present holder did
//! not make. So whoever delivers money that an earlier holder has settled reserves first, with the lease that he
//! was given: from then on that one, who may still be alive, can keep nothing.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{
    Inner, Refusal, RefusalKind,
    bind::Bound,
    events,
    kept::{Kept, Recording, TooLong},
    repeat,
    tasks::within,
};
use crate::{
    protocol::{ChallengeId, ContentDigest, IDEMPOTENCY_KEY, Timestamp},
    store::{AnswerStore, KeptAnswer, Lease, Proof, Reservation, StoreError, StoreErrorKind},
};

/// The longest `Idempotency-Key`.
const MAX_KEY_BYTES: usize = 255;

/// What a merchant keeps answers with.
pub(crate) struct Answers {
    pub(super) store: Arc<dyn AnswerStore>,
    /// The largest answer that is kept, with its head.
    pub(super) limit: usize,
    /// For how long.
    pub(super) ttl: Duration,
}

/// Why a paid request was not served by the service behind us.
pub(crate) enum NotServed {
    Refused(Refusal),
    /// It was served before, and this is the answer.
    Kept(Box<Kept>),
}

impl From<Refusal> for NotServed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl NotServed {
    pub(super) fn of(self, id: ChallengeId) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(refusal.of(id)),
            kept @ Self::Kept(_) => kept,
        }
    }
}

/// The key of a request, where answers are kept: the bytes of the field as they are, in quotes or not.
pub(crate) fn idempotency_key<'h>(merchant: &Inner, headers: &'h HeaderMap) -> Result<Option<&'h [u8]>, Refusal> {
    if merchant.answers.is_none() {
        return Ok(None);
    }
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter().map(|value| value.as_bytes());
    let Some(key) = keys.next() else { return Ok(None) };
    let invalid = |detail| Err(Refusal::detailed(RefusalKind::IdempotencyKeyInvalid, detail));
    if keys.any(|other| other != key) {
        return invalid("The request carries more than one Idempotency-Key. Nothing was charged.");
    }
    if key.is_empty() || key == b"\"\"" {
        return invalid("The Idempotency-Key is empty. Nothing was charged.");
    }
    if key.len() > MAX_KEY_BYTES {
        return invalid("The Idempotency-Key is longer than 255 bytes. Nothing was charged.");
    }
    // A text in quotes may have spaces.
    if !key.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return invalid("The Idempotency-Key is not visible ASCII. Nothing was charged.");
    }
    Ok(Some(key))
}

/// Half of a mark, and of a hash. That is enough: whoever finds two that are the same has paid for both.
pub(crate) type Half = [u8; 16];

/// What a request whose answer may be kept is told by.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// The hash of its key. What the client chose may be a secret, and of any length.
    key: Half,
    /// What must be the same when it comes again.
    request: Half,
}

impl Asked {
    /// `digest` is that of the body; a body that nobody has read has none, and its answer is not kept.
    pub(crate) fn new(bound: &Bound, key: &[u8], scope: &str, digest: Option<&ContentDigest>) -> Self {
        Self { key: key_half(key), request: first_half(fingerprint(scope, digest, bound.proof())) }
    }

    /// The mark of a request, as a store has it. That of one without a key is like no other's: its answer is never
    /// kept.
    fn mark(asked: Option<&Self>) -> [u8; 32] {
        let mut mark = [0; 32];
        if let Some(asked) = asked {
            let (key, request) = mark.split_at_mut(asked.key.len());
            key.copy_from_slice(&asked.key);
            request.copy_from_slice(&asked.request);
        }
        mark
    }
}

/// What stands for a key in the mark of a request.
pub(crate) fn key_half(key: &[u8]) -> Half {
    first_half(Sha256::digest(key).into())
}

fn first_half(hash: [u8; 32]) -> Half {
    let mut half = [0; 16];
    half.iter_mut().zip(hash).for_each(|(half, byte)| *half = byte);
    half
}

/// Method, path, body and credential. The scope has no fixed length, so it stands at the end.
fn fingerprint(scope: &str, digest: Option<&ContentDigest>, proof: Proof) -> [u8; 32] {
    let mut hash = Sha256::new();
    match digest {
        Some(digest) => {
            hash.update([1]);
            hash.update(digest.as_bytes());
        }
        None => hash.update([0]),
    }
    hash.update(proof.key().as_bytes());
    hash.update(scope);
    hash.finalize().into()
}

/// What is known of the answer to a payment, to who asks for it with a key or without one.
pub(super) enum Found {
    /// Nothing, or nobody is at work on it any more.
    Nothing,
    /// This very request is being answered.
    Running,
    /// The answer to this very request.
    Kept(Box<Kept>),
    /// The same key, and another request.
    OtherRequest { complete: bool },
    /// Another key, or only one of the two has any.
    OtherKey { complete: bool },
}

/// What is known of the answer to a payment, whatever the journal still knows of it.
///
/// # Errors
/// [`RefusalKind::Unavailable`]: nobody can say.
pub(super) async fn look_up(merchant: &Inner, id: ChallengeId, asked: Option<&Asked>) -> Result<Found, Refusal> {
    let Some(answers) = &merchant.answers else { return Ok(Found::Nothing) };
    let now = merchant.now();
    let row = match step(merchant, answers.store.look_up(id, now)).await {
        Ok(row) => row,
        Err(error) => return Err(unavailable("look_up", &error)),
    };
    let Some(KeptAnswer { request, until, answer }) = row else { return Ok(Found::Nothing) };
    let complete = answer.is_some();
    let Some(asked) = asked.filter(|asked| request.starts_with(&asked.key)) else {
        return Ok(Found::OtherKey { complete });
    };
    if !request.ends_with(&asked.request) {
        return Ok(Found::OtherRequest { complete });
    }
    match answer {
        Some(answer) => match Kept::read(answer) {
            Some(kept) => Ok(Found::Kept(Box::new(kept))),
            None => {
                events::answer_unreadable();
                Ok(Found::Nothing)
            }
        },
        None if until > now => Ok(Found::Running),
        None => Ok(Found::Nothing),
    }
}

/// The answer to a request that is bound to another one's challenge, where that one came with the same key, or where
/// nobody can say.
pub(super) async fn reused(merchant: &Inner, id: ChallengeId, key: Half) -> Option<Refusal> {
    let answers = merchant.answers.as_ref()?;
    match step(merchant, answers.store.look_up(id, merchant.now())).await {
        Ok(Some(row)) if row.request.starts_with(&key) => Some(Refusal::new(RefusalKind::IdempotencyKeyReused).of(id)),
        Ok(_) => None,
        Err(error) => Some(unavailable("look_up", &error)),
    }
}

fn unavailable(step: &'static str, error: &StoreError) -> Refusal {
    events::answers_failed(step, error);
    Refusal::new(RefusalKind::Unavailable).retry_after_or_default(error.retry_after())
}

/// The row of a delivery: what is reserved for its answer, under the lease of its money.
#[derive(Clone, Copy)]
pub(super) struct Row {
    lease: Lease,
    mark: [u8; 32],
    /// Until when the journal remembers the payment.
    remembered: Timestamp,
}

impl Row {
    pub(super) fn new(merchant: &Inner, lease: Lease, bound: &Bound) -> Self {
        let mark = Asked::mark(bound.asked.as_ref());
        Self { lease, mark, remembered: merchant.keep_until(bound.payment.expires) }
    }

    /// As long as somebody may hold an older lease the row is needed, also when its answer is given up.
    fn reservation(&self, merchant: &Inner) -> Reservation {
        let now = merchant.now();
        let until = now.saturating_add(merchant.settings.lease);
        let keep_until = self.remembered.max(until.saturating_add(merchant.settings.lease));
        Reservation { lease: self.lease, request: self.mark, now, until, keep_until }
    }

    /// Says that its answer is on its way: from now on no older holder can keep one.
    ///
    /// # Errors
    /// A refusal: somebody has taken over since, or nobody can say whether an older holder is shut out.
    pub(super) async fn fence(&self, merchant: &Inner) -> Result<(), Refusal> {
        let Some(answers) = &merchant.answers else { return Ok(()) };
        self.shut_out(merchant, answers).await.map_err(|error| match error.kind() {
            StoreErrorKind::LeaseLost => Refusal::new(RefusalKind::InFlight),
            _ => Refusal::new(RefusalKind::Unavailable).retry_after_or_default(error.retry_after()),
        })
    }

    async fn shut_out(&self, merchant: &Inner, answers: &Answers) -> Result<(), StoreError> {
        let Err(error) = step(merchant, answers.store.reserve(self.reservation(merchant))).await else {
            return Ok(());
        };
        events::answers_failed("reserve", &error);
        match error.kind() {
            // Then there is no row, and where there is none nobody can keep anything.
            StoreErrorKind::Full => Ok(()),
            _ => Err(error),
        }
    }

    /// What keeps its answer. `None` when it cannot be kept: it is delivered all the same.
    pub(super) async fn keeper(self, merchant: &Arc<Inner>) -> Option<Box<Keeper>> {
        let answers = merchant.answers.as_ref()?;
        // Without a runtime nobody could keep it.
        tokio::runtime::Handle::try_current().ok()?;
        let reservation = self.reservation(merchant);
        if let Err(error) = step(merchant, answers.store.reserve(reservation)).await {
            events::answers_failed("reserve", &error);
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let task = merchant.tasks.spawn(hold(Arc::clone(merchant), self, reservation.keep_until, receiver));
        Some(Box::new(Keeper {
            id: self.lease.id,
            answer: Some(sender),
            task: Some(task),
            outcome: Outcome::NotKept,
            recording: None,
            declared: None,
            complete: false,
            held: None,
            limit: answers.limit,
        }))
    }
}

/// Whether the answer to a payment is kept, asked before its money is given back with this lease. It is delivered
/// then: whoever has its key can have it. From now on no older holder can keep one. `remembered` is until when the
/// journal remembers the payment.
///
/// # Errors
/// Somebody has taken over since, or nobody can say: then nothing is given back.
pub(super) async fn is_kept(merchant: &Inner, lease: Lease, remembered: Timestamp) -> Result<bool, StoreError> {
    let Some(answers) = &merchant.answers else { return Ok(false) };
    let row = Row { lease, mark: Asked::mark(None), remembered };
    // What fails was logged.
    repeat::insist(repeat::QUICK, |_| (), || row.shut_out(merchant, answers)).await?;
    let failed = |error: &StoreError| events::answers_failed("look_up", error);
    let look_up = || step(merchant, answers.store.look_up(lease.id, merchant.now()));
    let row = repeat::insist(repeat::QUICK, failed, look_up).await?;
    Ok(row.is_some_and(|row| row.answer.is_some()))
}

/// Renews a reservation until the answer is there or given up. It does not depend on anybody who reads
/// the answer. `sure_until` is until when the store remembers the reservation.
async fn hold(
    merchant: Arc<Inner>,
    row: Row,
    mut sure_until: Timestamp,
    mut answer: oneshot::Receiver<Bytes>,
) -> Outcome {
    let Some(answers) = &merchant.answers else { return Outcome::NotKept };
    let mut outcome = Outcome::NotKept;
    let answer = loop {
        match tokio::time::timeout(merchant.settings.lease / 3, &mut answer).await {
            Ok(answer) => break answer.ok(),
            Err(_) => {
                let reservation = row.reservation(&merchant);
                // A process that was stopped for so long: the row of whoever took over may be forgotten as well,
                // and must not be made anew.
                if reservation.now >= sure_until {
                    return outcome;
                }
                let Err(error) = step(&merchant, answers.store.reserve(reservation)).await else {
                    sure_until = sure_until.max(reservation.keep_until);
                    continue;
                };
                events::answers_failed("reserve", &error);
                // Somebody has taken over: what this holder makes is not kept.
                if error.kind() == StoreErrorKind::LeaseLost {
                    return outcome;
                }
            }
        }
    };
    if let Some(answer) = answer {
        let keep_until = merchant.now().saturating_add(answers.ttl);
        let Err(error) = step(&merchant, answers.store.keep(row.lease, answer, keep_until)).await else {
            return Outcome::Kept;
        };
        events::answers_failed("keep", &error);
        if error.kind() == StoreErrorKind::LeaseLost {
            return outcome;
        }
        outcome = Outcome::Unknown;
    }
    if let Err(error) = step(&merchant, answers.store.give_up(row.lease)).await {
        events::answers_failed("give_up", &error);
    }
    outcome
}

/// What became of an answer.
enum Outcome {
    Kept,
    NotKept,
    /// The store did not say. What is complete stays.
    Unknown,
}

/// Whether an answer was kept although the store did not say so.
async fn was_kept(merchant: &Inner, id: ChallengeId) -> bool {
    let Some(answers) = &merchant.answers else { return false };
    let mut pauses = repeat::LONG.iter().copied().map(Duration::from_millis);
    loop {
        let error = match step(merchant, answers.store.look_up(id, merchant.now())).await {
            Ok(row) => return row.is_some_and(|row| row.answer.is_some()),
            Err(error) => error,
        };
        events::answers_failed("look_up", &error);
        match pauses.next() {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return false,
        }
    }
}

/// One step of the store, within its time.
async fn step<T>(merchant: &Inner, step: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(merchant.settings.store_timeout, step)
        .await
        .unwrap_or_else(|| Err(StoreError::unavailable("the answer store did not answer in time")))
}

/// The right to keep one answer. Dropped before the answer is complete, it gives the reservation up.
pub(crate) struct Keeper {
    id: ChallengeId,
    /// To the task that holds the reservation.
    answer: Option<oneshot::Sender<Bytes>>,
    task: Option<JoinHandle<Outcome>>,
    /// What it has said.
    outcome: Outcome,
    recording: Option<Recording>,
    /// The length of the body, where it was declared.
    declared: Option<u64>,
    /// All data of the body were recorded, and nothing but trailers can follow.
    complete: bool,
    held: Option<Held>,
    limit: usize,
}

/// The last frame of an answer, which leaves once the answer is kept.
pub(crate) enum Held {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Keeper {
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Begins with a head.
    pub(crate) fn begin(&mut self, recording: Recording, declared: Option<u64>) {
        self.recording = Some(recording);
        self.declared = declared;
    }

    /// Whether a body of this length fits behind the head that was recorded.
    pub(crate) fn has_room_for(&self, length: u64) -> bool {
        let room = self.recording.as_ref().map_or(0, Recording::room);
        usize::try_from(length).is_ok_and(|length| length <= room)
    }

    /// The next data. On an error there is nothing more to record.
    pub(crate) fn data(&mut self, data: &[u8]) -> Result<(), TooLong> {
        let recording = self.recording.as_mut().ok_or(TooLong)?;
        recording.push(data)?;
        self.complete = self.declared == Some(recording.body_length());
        Ok(())
    }

    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), TooLong> {
        self.recording.as_mut().ok_or(TooLong)?.trailers(trailers)
    }

    /// The answer is whole: keeps it, whatever becomes of this handle.
    pub(crate) fn keep(&mut self) {
        if let (Some(recording), Some(task)) = (self.recording.take(), self.answer.take()) {
            // Nobody there: the runtime is shutting down.
            let _ = task.send(recording.finish());
        }
    }

    /// Holds the last frame back.
    pub(crate) fn hold(&mut self, frame: Held) {
        self.held = Some(frame);
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// How much data is held back.
    pub(crate) fn held_length(&self) -> Option<u64> {
        self.held.as_ref().map(|held| if let Held::Data(data) = held { data.len() as u64 } else { 0 })
    }

    pub(crate) fn release(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// The answer broke off: what was recorded is not one.
    pub(crate) fn abandon(&mut self) {
        self.complete = false;
        self.recording = None;
    }

    /// Waits until the answer is kept, or cannot be.
    pub(crate) fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(task) = &mut self.task {
            // It may have panicked.
            self.outcome = ready!(Pin::new(task).poll(cx)).unwrap_or(Outcome::Unknown);
            self.task = None;
        }
        Poll::Ready(())
    }

    /// Gives the reservation up, unless the answer is being kept, and waits until the store knows. Answers
    /// whether it is kept.
    pub(super) async fn give_up(mut self: Box<Self>, merchant: &Inner) -> bool {
        self.complete = false;
        self.answer = None;
        if let Some(task) = self.task.take() {
            self.outcome = task.await.unwrap_or(Outcome::Unknown);
        }
        match self.outcome {
            Outcome::Kept => true,
            Outcome::NotKept => false,
            Outcome::Unknown => was_kept(merchant, self.id).await,
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Servers do not ask for the end of a body whose declared length they have got.
        if self.complete {
            self.keep();
        }
    }
}
