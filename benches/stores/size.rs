//! How big a journal gets, and whether it gives the space back.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, PgConnection, Row as _};
use tower_mpp::{Clock as _, SystemClock, store::NonceStore};

use crate::{Place, load::Payments};

const DAY: Duration = Duration::from_secs(86_400);
/// The server looks for what is expired ten times a second, at some of it.
const DEADLINE: Duration = Duration::from_secs(120);
/// How often a sweeper comes by after the last payment was forgotten.
const PASSES: usize = 300;
const MILLION: f64 = 1e6;
const MB: f64 = 1e6;

/// Fills a journal, lets it forget everything, and fills it again: it must not get bigger by that.
pub(crate) async fn measure(place: &Place, folder: &Path, payments: u64) {
    if matches!(place, Place::Memory) {
        return;
    }
    let (location, url) = place.fresh(folder, "size.db").await;
    let Ok(journal) = location.open().await else { return };
    let store = journal.payments;
    // Redis forgets by its own clock too: later than the last payment, and so soon that we can wait for it.
    let keep = if matches!(place, Place::Redis(_)) { Duration::from_secs(60 + payments / 1000) } else { DAY };
    let empty = bytes(place, &url).await;
    let all = Payments::default();
    all.fill(&store, payments, keep).await;
    let full = bytes(place, &url).await;
    forget(place, &store, &url, keep).await;
    let after = bytes(place, &url).await;
    all.fill(&store, payments, keep).await;
    let again = bytes(place, &url).await;
    let million = (full - empty) / payments as f64 * MILLION / MB;
    println!(
        "  {payments} delivered payments: {:.1} MB in {}, which makes {million:.0} MB for a million (scaled); after \
         they were forgotten {:.1} MB; with as many more {:.1} MB; empty {:.1} MB",
        full / MB,
        what(place),
        after / MB,
        again / MB,
        empty / MB,
    );
}

/// Until nothing is left.
async fn forget(place: &Place, store: &Arc<dyn NonceStore>, url: &str, keep: Duration) {
    if let Place::Redis(_) = place {
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let deadline = Instant::now() + 2 * keep + DEADLINE;
        // A few keys are not a payment's.
        while redis::cmd("DBSIZE").query_async::<u64>(&mut connection).await.unwrap() > 10 {
            assert!(Instant::now() < deadline, "the server forgets nothing");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        return;
    }
    let later = SystemClock.now().saturating_add(2 * keep);
    while store.forget(later, 1000).await.unwrap() > 0 {}
    // As a sweeper does, who comes by again: space is given back some megabytes at a time.
    for _ in 0..PASSES {
        store.forget(later, 1000).await.unwrap();
    }
}

fn what(place: &Place) -> &'static str {
    match place {
        Place::Memory | Place::Sqlite => "files, the WAL included",
        Place::Postgres(_) => "tables and indexes, after VACUUM",
        Place::Redis(_) => "memory",
    }
}

async fn bytes(place: &Place, url: &str) -> f64 {
    match place {
        Place::Memory => 0.0,
        Place::Sqlite => {
            let path = Path::new(url.strip_prefix("sqlite:").unwrap());
            let name = path.file_name().unwrap().to_str().unwrap();
            let files = fs::read_dir(path.parent().unwrap()).unwrap().flatten();
            let ours = files.filter(|file| file.file_name().to_string_lossy().starts_with(name));
            ours.map(|file| file.metadata().unwrap().len() as f64).sum()
        }
        Place::Postgres(_) => {
            let mut connection = PgConnection::connect(url).await.unwrap();
            // What the server does by itself, some time later.
            sqlx::query("VACUUM").execute(&mut connection).await.unwrap();
            let sum = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::float8 FROM pg_class \
                       WHERE relkind = 'r' AND relnamespace NOT IN \
                       (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg\\_%' OR nspname = 'information_schema')";
            sqlx::query(sum).fetch_one(&mut connection).await.unwrap().get(0)
        }
        Place::Redis(server) => {
            let info: String =
                redis::cmd("INFO").arg("memory").query_async(&mut server.connection().await).await.unwrap();
            let used = info.lines().find_map(|line| line.strip_prefix("used_memory_dataset:"));
            used.unwrap().trim().parse().unwrap()
        }
    }
}
