//! The public suite, against ours and against wrong ones.

use std::{sync::Arc, time::Duration};

use http::{Request, Uri};
use tower_mpp::{
    conformance::upstream::{Law, Suite},
    upstream::{Body, HttpUpstream, ServiceUpstream, Upstream},
};

use crate::{
    shop::client,
    wrong::{Bug, Wrong},
};

fn http(base_url: &str) -> HttpUpstream {
    HttpUpstream::builder(base_url).build().unwrap()
}

#[tokio::test]
async fn the_http_upstream_keeps_the_laws() {
    Suite::new(|base_url: String| async move { http(&base_url) }).assert().await;
}

#[tokio::test]
async fn one_with_a_hook_a_tap_and_a_limit_keeps_them_too() {
    Suite::new(|base_url: String| async move {
        HttpUpstream::builder(base_url)
            .on_error(|_| tower_mpp::upstream::Retry::No)
            .usage(tower_mpp::upstream::Usage::OpenAi)
            .max_calls(100)
            .build()
            .unwrap()
    })
    .assert()
    .await;
}

#[tokio::test]
async fn a_shared_upstream_keeps_the_laws() {
    Suite::new(|base_url: String| async move { Arc::new(http(&base_url)) as Arc<dyn Upstream> }).assert().await;
}

/// A client of somebody else's, as a service that is ready when it has a connection: then it has not been asked when
/// nobody is there.
#[tokio::test]
async fn a_client_that_is_a_service_keeps_the_laws() {
    let suite = Suite::new(|base_url: String| async move {
        let client = client::<Body>();
        let address = base_url.trim_start_matches("http://").to_owned();
        let base: Uri = base_url.parse().unwrap();
        let send = tower::service_fn(move |mut request: Request<Body>| {
            let mut parts = base.clone().into_parts();
            parts.path_and_query = request.uri().path_and_query().cloned();
            *request.uri_mut() = Uri::from_parts(parts).unwrap();
            client.request(request)
        });
        let connects = Connects { address, inner: send };
        ServiceUpstream::new("client", connects)
    });
    suite.assert().await;
}

#[derive(Clone)]
struct Connects<S> {
    address: String,
    inner: S,
}

impl<S: tower_service::Service<Request<Body>>> tower_service::Service<Request<Body>> for Connects<S>
where
    S::Error: Into<tower_mpp::upstream::BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = tower_mpp::upstream::BoxError;
    type Future = futures_util::future::BoxFuture<'static, Result<S::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        let address = self.address.parse().unwrap();
        if let Err(error) = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            return std::task::Poll::Ready(Err(error.into()));
        }
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map_err(Into::into) })
    }
}

/// Each wrong upstream with the law that is there to catch it.
const CAUGHT: [(Bug, Law); 18] = [
    (Bug::NoName, Law::HasAName),
    (Bug::DropsQuery, Law::RequestAsItIs),
    (Bug::LosesMethod, Law::RequestAsItIs),
    (Bug::ErrorsForStatus, Law::AnswerAsItIs),
    (Bug::FollowsRedirects, Law::NoRedirectFollowed),
    (Bug::OneAtATime, Law::ManyAtOnce),
    (Bug::NeverStarts, Law::StartedBeforeItLeaves),
    (Bug::StartsAtOnce, Law::NotStartedBefore),
    (Bug::AnswersForErrors, Law::NotStartedBefore),
    (Bug::BrokenIsUnreachable, Law::BrokenHasStarted),
    (Bug::TriesTwice, Law::NothingIsTriedTwice),
    (Bug::GivesUp, Law::NextCallWorks),
    (Bug::CollectsAnswers, Law::AnswersStream),
    (Bug::CollectsRequests, Law::RequestsStream),
    (Bug::ReadsAhead, Law::ReaderSetsThePace),
    (Bug::DropsTrailers, Law::TrailersPass),
    (Bug::SwallowsBreaks, Law::BreakIsAnError),
    (Bug::EndsBrokenRequests, Law::ClientBreakIsNoEnd),
];
const CAUGHT_TOO: [(Bug, Law); 2] = [(Bug::GoesOnAlone, Law::DroppedCallEnds), (Bug::ReadsAhead, Law::DroppedBodyEnds)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_wrong_upstream_is_caught_by_the_law_for_it() {
    let checks = CAUGHT.into_iter().chain(CAUGHT_TOO).map(|(bug, law)| {
        tokio::spawn(async move {
            let suite = Suite::new(move |base_url: String| async move { Wrong::new(http(&base_url), bug) });
            let violations = suite.run().await.err();
            let broken: Vec<_> = violations.iter().flat_map(|found| found.iter()).map(|found| found.law()).collect();
            println!("{bug:?}: {broken:?}");
            (!broken.contains(&law)).then_some((bug, law, broken))
        })
    });
    let mut escaped = Vec::new();
    for check in futures_util::future::join_all(checks).await {
        escaped.extend(check.unwrap());
    }
    assert!(escaped.is_empty(), "{escaped:?}");
    let watched: Vec<_> = CAUGHT.into_iter().chain(CAUGHT_TOO).map(|(_, law)| law).collect();
    assert!(Law::ALL.iter().all(|law| watched.contains(law)), "each law catches somebody");
}
