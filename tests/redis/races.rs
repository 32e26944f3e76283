//! Many payers, and replicas of a service.

use futures_util::future::join_all;
use tower_mpp::{
    protocol::SpendKey,
    store::{Claim, Claimed, NonceStore as _, Proof},
};

use crate::{
    payments::{claim, held, id, store},
    redis_server::Redis,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_wins_each_id_and_each_proof() {
    const IDS: u64 = 200;
    let server = Redis::start_with(&["--appendfsync", "everysec"]).await;
    let handles = [store(&server.url()).await, store(&server.url()).await];
    // Every id is claimed four times by each, and every proof for four ids.
    let claims = (0..8 * IDS).map(|n| {
        let (handle, n) = (handles[(n % 2) as usize].clone(), n / 8);
        tokio::spawn(async move { (n, handle.claim(claim(n)).await.unwrap()) })
    });
    let mut winners = vec![0; IDS as usize];
    for claimed in join_all(claims).await {
        let (n, claimed) = claimed.unwrap();
        match claimed {
            Claimed::Won { resumed: false, .. } => winners[n as usize] += 1,
            Claimed::Busy => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(winners.iter().all(|count| *count == 1), "{winners:?}");

    let proof = |n: u64| Proof::Exclusive(SpendKey::from_bytes([(n % 100) as u8; 32]));
    let claims = (0..8 * 100).map(|n| {
        let handle = handles[(n % 2) as usize].clone();
        tokio::spawn(async move {
            let claim = Claim { proof: proof(n), ..claim(10_000 + n) };
            (n % 100, handle.claim(claim).await.unwrap())
        })
    });
    let mut winners = [0; 100];
    for claimed in join_all(claims).await {
        let (n, claimed) = claimed.unwrap();
        winners[n as usize] += i32::from(matches!(claimed, Claimed::Won { .. }));
    }
    assert!(winners.iter().all(|count| *count == 1), "{winners:?}");
}

/// A failover may lose what the replica did not have yet, and a backup is older than the leases.
#[tokio::test]
async fn tokens_grow_where_the_server_has_lost_the_last_one() {
    let server = Redis::start().await;
    let store = store(&server.url()).await;
    let before = held(&store, 1).await;
    server.flush().await;
    let after = held(&store, 1).await;
    assert!(before.token < after.token);
    assert!(store.settle(before, &crate::payments::settlement(1)).await.is_err());
    // Nor does the clock of a server that was set back.
    let ahead: u64 = after.token + 1_000_000_000;
    redis::cmd("SET").arg("{mpp}:token").arg(ahead).exec_async(&mut server.connection().await).await.unwrap();
    assert_eq!(held(&store, 2).await.token, ahead + 1);
    assert!(store.find(id(2)).await.unwrap().is_some());
}
