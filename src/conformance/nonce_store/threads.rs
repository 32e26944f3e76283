//! Work on threads, each the worker's own.

use std::thread;

use tokio::sync::mpsc;

use super::lab::Checked;

/// Runs each worker on a thread of its own, on the caller's runtime where there is one.
pub(super) async fn run<T, W>(workers: impl IntoIterator<Item = W>) -> Checked<Vec<T>>
where
    T: Send + 'static,
    W: Future<Output = Checked<T>> + Send + 'static,
{
    let (report, mut reports) = mpsc::unbounded_channel();
    let mut count = 0;
    for work in workers {
        count += 1;
        let report = report.clone();
        let runtime = tokio::runtime::Handle::try_current();
        thread::spawn(move || {
            let done = match runtime {
                Ok(runtime) => runtime.block_on(work),
                Err(_) => match tokio::runtime::Builder::new_current_thread().build() {
                    Ok(runtime) => runtime.block_on(work),
                    Err(error) => Err(format!("no runtime for a thread: {error}")),
                },
            };
            // Nobody waits for it when another worker has failed.
            let _ = report.send(done);
        });
    }
    drop(report);
    let mut all = Vec::new();
    while let Some(done) = reports.recv().await {
        all.push(done?);
    }
    if all.len() == count { Ok(all) } else { Err(format!("{} of {count} threads panicked", count - all.len())) }
}
