//! Work on money runs to its end whether or not the client stays.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

/// How many receipts may be on their way into the ledger. While it is away they wait there for minutes.
const MAX_FILED: usize = 8192;
/// How many bytes they may have together, in KiB: 64 MiB.
const MAX_FILED_KIB: usize = 64 * 1024;

/// Owns every task of a merchant and bounds how many payments are at work.
pub(crate) struct Tasks {
    tracker: TaskTracker,
    permits: Arc<Semaphore>,
    max_in_flight: usize,
    filed: Arc<Semaphore>,
    filed_kib: Arc<Semaphore>,
}

/// Room for one receipt on its way into the ledger, until it is dropped.
pub(crate) struct Room {
    _one: OwnedSemaphorePermit,
    _kib: OwnedSemaphorePermit,
}

/// Counts one payment as in flight until it is dropped.
pub(crate) struct InFlight {
    _permit: OwnedSemaphorePermit,
    _token: TaskTrackerToken,
}

impl Tasks {
    pub(crate) fn new(max_in_flight: usize) -> Self {
        Self {
            tracker: TaskTracker::new(),
            permits: Arc::new(Semaphore::new(max_in_flight)),
            max_in_flight,
            filed: Arc::new(Semaphore::new(MAX_FILED)),
            filed_kib: Arc::new(Semaphore::new(MAX_FILED_KIB)),
        }
    }

    /// Room for a receipt of so many bytes, if there is some.
    pub(crate) fn room(&self, bytes: usize) -> Option<Room> {
        let kib = u32::try_from(bytes.div_ceil(1024)).ok()?;
        let one = Arc::clone(&self.filed).try_acquire_owned().ok()?;
        let kib = Arc::clone(&self.filed_kib).try_acquire_many_owned(kib).ok()?;
        Some(Room { _one: one, _kib: kib })
    }

    /// A place for one more payment, if there is one.
    pub(crate) fn enter(&self) -> Option<InFlight> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(InFlight { _permit: permit, _token: self.tracker.token() })
    }

    pub(crate) fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(work)
    }

    /// Runs work that nobody waits for, from a place that cannot wait: a destructor.
    ///
    /// Without a runtime, as while one is being shut down, the work is left undone: the lease on the
    /// journal entry then ends by itself.
    pub(crate) fn spawn_from_drop<F>(&self, work: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(self.tracker.spawn_on(work, &runtime));
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.max_in_flight.saturating_sub(self.permits.available_permits())
    }

    pub(crate) async fn drain(&self) {
        // A closed tracker still takes tasks; closing only lets `wait` end.
        self.tracker.close();
        self.tracker.wait().await;
        self.tracker.reopen();
    }
}

/// A future that outlives whoever waits for it.
///
/// It is polled once where it is; what does not have to wait (a journal in memory, a rail without a
/// network) is done then, without the cost of a task. Otherwise it moves to a task of its own, which
/// is not ended when this handle is dropped.
pub(crate) struct Detached<T>(State<T>);

enum State<T> {
    New(Pin<Box<dyn Future<Output = T> + Send>>),
    Running(JoinHandle<T>),
    Done,
}

impl<T: Send + 'static> Detached<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(State::New(Box::pin(work)))
    }

    /// The result, or `None` when the work panicked or the runtime was shut down.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, tasks: &Tasks) -> Poll<Option<T>> {
        if let State::New(work) = &mut self.0 {
            // A panic in a rail or a store must not take the connection with it, here as in a task.
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(result)) => {
                    self.0 = State::Done;
                    return Poll::Ready(Some(result));
                }
                Err(_) => {
                    self.0 = State::Done;
                    return Poll::Ready(None);
                }
            }
            if let State::New(work) = std::mem::replace(&mut self.0, State::Done) {
                self.0 = State::Running(tasks.spawn(work));
            }
        }
        let State::Running(task) = &mut self.0 else { return Poll::Ready(None) };
        let result = ready!(Pin::new(task).poll(cx));
        self.0 = State::Done;
        Poll::Ready(result.ok())
    }
}

/// `work`, unless it takes longer than `limit`. The timer is only made when there is something to wait for.
pub(crate) async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let first = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
    match first {
        Poll::Ready(result) => Some(result),
        Poll::Pending => tokio::time::timeout(limit, work).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_receipts_and_so_many_bytes() {
        const MIB: usize = 1024 * 1024;
        let tasks = Tasks::new(1);
        let mut rooms: Vec<_> = std::iter::from_fn(|| tasks.room(3 * MIB)).collect();
        assert_eq!(rooms.len(), 21);
        assert!(tasks.room(MIB).is_some() && tasks.room(usize::MAX).is_none());
        rooms.pop();
        assert!(tasks.room(3 * MIB).is_some());
        drop(rooms);
        let rooms: Vec<_> = std::iter::from_fn(|| tasks.room(1)).collect();
        assert_eq!(rooms.len(), MAX_FILED);
        drop(rooms);
        assert!(tasks.room(64 * MIB).is_some());
    }
}
