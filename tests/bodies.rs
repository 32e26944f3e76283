//! Bodies on their way in and out: bound by what they are and not by how they are framed, never copied,
//! never waited for without need, never charged for when they break off.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, channel::Channel};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use serde_json::json;
use support::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tower::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;
use tower_mpp::{
    Payment, PaymentLayer, Price, RequestBody, ResponseBody,
    pricing::{self, Refused},
    protocol::{Challenge, ContentDigest},
};

const MIB: usize = 1024 * 1024;

fn price() -> Price {
    Price::usd("1.00").unwrap()
}

fn pay(challenge: &Challenge) -> HeaderValue {
    pay_with(challenge, None, &json!({"token": "ok"}))
}

fn post<B>(body: B) -> Request<B> {
    Request::post("/").body(body).unwrap()
}

fn post_paid<B>(body: B, credential: &HeaderValue) -> Request<B> {
    with_credential(post(body), credential)
}

/// What a handler has read of a request.
#[derive(Clone, Debug, Default)]
struct Read {
    headers: HeaderMap,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// What the body said about its length before it was read.
    hint: (u64, Option<u64>),
}

impl Read {
    fn places(&self) -> Vec<*const u8> {
        self.chunks.iter().map(|chunk| chunk.as_ptr()).collect()
    }
}

/// A route whose handler notes what it reads.
struct Desk {
    rail: TestRail,
    read: Arc<Mutex<Vec<Read>>>,
    service: Payment<Handler<Frames>>,
}

impl Desk {
    fn open(configure: impl FnOnce(&tower_mpp::Merchant) -> PaymentLayer) -> Self {
        let rail = TestRail::new("demo");
        let read = Arc::new(Mutex::new(Vec::new()));
        let handler = {
            let read = Arc::clone(&read);
            service_fn(move |request: Request<RequestBody<Frames>>| {
                let read = Arc::clone(&read);
                async move {
                    let note = note(request).await;
                    read.lock().unwrap().push(note);
                    Ok::<_, Infallible>(Response::new("served".into()))
                }
            })
        };
        let service = configure(&merchant(&rail)).layer(Handler::new(handler));
        Self { rail, read, service }
    }

    fn bound() -> Self {
        Self::open(|merchant| merchant.charge(price()).unwrap())
    }

    /// Pays for one body and sends another.
    async fn buy(&self, priced: Frames, sent: Frames) -> Answer {
        let credential = pay(&ask(&self.service, post(priced)).await);
        call(&self.service, post_paid(sent, &credential)).await
    }

    fn last(&self) -> Read {
        self.read.lock().unwrap().last().unwrap().clone()
    }
}

async fn note<B: http_body::Body<Data = Bytes>>(request: Request<B>) -> Read {
    let (head, body) = request.into_parts();
    let mut body = Box::pin(body);
    let hint = body.size_hint();
    let mut read = Read { headers: head.headers, hint: (hint.lower(), hint.upper()), ..Read::default() };
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => read.chunks.push(data),
            Err(frame) => read.trailers = frame.into_trailers().ok(),
        }
    }
    assert!(body.is_end_stream());
    read
}

fn framings() -> [Frames; 5] {
    [
        Frames::of(["one two three"]).declared(),
        Frames::of(["one two three"]).chunked(),
        Frames::of(["one ", "two ", "three"]).chunked().waiting(),
        Frames::of(["", "one ", "", "two three", "", ""]),
        Frames::of(["one two", " three"]).trailer("x-checksum", "1"),
    ]
}

#[tokio::test]
async fn a_body_is_bound_by_its_bytes_however_it_is_framed() {
    let desk = Desk::bound();
    for priced in 0..framings().len() {
        let [one, two] = [framings(), framings()];
        let challenge = ask(&desk.service, post(one.into_iter().nth(priced).unwrap())).await;
        assert_eq!(challenge.digest, Some(ContentDigest::of(b"one two three").to_string()));
        for sent in two {
            let credential = pay(&ask(&desk.service, post(framings().into_iter().nth(priced).unwrap())).await);
            assert_eq!(call(&desk.service, post_paid(sent, &credential)).await.status, 200);
            assert_eq!(desk.last().chunks.concat(), b"one two three");
        }
        for other in ["one two thre", "one two three ", "One two three"] {
            let credential = pay(&ask(&desk.service, post(framings().into_iter().nth(priced).unwrap())).await);
            let answer = call(&desk.service, post_paid(Frames::of([other]), &credential)).await;
            answer.assert_challenged("invalid-challenge");
        }
    }
    assert_eq!(desk.rail.settlements(), 25);
}

#[tokio::test]
async fn an_empty_body_is_no_body_however_it_is_framed() {
    let desk = Desk::bound();
    let empty =
        || [Frames::none(), Frames::none().chunked(), Frames::of([""]).chunked(), Frames::of(["", ""]).waiting()];
    for priced in empty() {
        let challenge = ask(&desk.service, post(priced)).await;
        assert_eq!(challenge.digest, None);
        for sent in empty() {
            let credential = pay(&ask(&desk.service, post(Frames::none())).await);
            assert_eq!(call(&desk.service, post_paid(sent, &credential)).await.status, 200);
        }
        // Nothing does not buy something, nor something nothing.
        assert_eq!(call(&desk.service, post_paid(Frames::of(["x"]), &pay(&challenge))).await.status, 402);
    }
    assert_eq!(desk.buy(Frames::of(["x"]), Frames::none()).await.status, 402);
    let trailers = Frames::none().chunked().trailer("x-checksum", "0");
    assert_eq!(desk.buy(Frames::none(), trailers).await.status, 200);
    assert_eq!(desk.last().trailers.unwrap()["x-checksum"], "0");
}

#[tokio::test]
async fn chunks_are_handed_on_and_not_copied_and_trailers_stay() {
    let chunks: Vec<Bytes> = ["one ", "two ", "three"].iter().map(|text| Bytes::from(text.to_string())).collect();
    let places: Vec<_> = chunks.iter().map(|chunk| chunk.as_ptr()).collect();
    let body = || Frames::of(chunks.clone()).declared().trailer("x-checksum", "1");
    let by_body = |merchant: &tower_mpp::Merchant| {
        let pricing = pricing::with_body(|_, body| {
            assert_eq!(body, "one two three");
            price()
        });
        merchant.charge(pricing).unwrap()
    };
    let free_by_body = |merchant: &tower_mpp::Merchant| {
        let free = pricing::with_body(|_, body| (body != "one two three").then(price));
        merchant.charge(free).unwrap()
    };
    let bound = Desk::bound();
    assert_eq!(bound.buy(body(), body()).await.status, 200);
    let priced = Desk::open(by_body);
    assert_eq!(priced.buy(body(), body()).await.status, 200);
    let unbound = Desk::open(|merchant| merchant.charge(price()).unwrap().bind_body(false));
    assert_eq!(unbound.buy(body(), body()).await.status, 200);
    let free = Desk::open(free_by_body);
    assert_eq!(call(&free.service, post(body())).await.status, 200);
    for desk in [bound, priced, unbound, free] {
        let read = desk.last();
        assert_eq!(read.places(), places);
        assert_eq!(read.trailers.unwrap()["x-checksum"], "1");
        assert_eq!(read.hint, (13, Some(13)));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_charged_for() {
    let desk = Desk::bound();
    let credential = pay(&ask(&desk.service, post(Frames::of(["one two"]))).await);
    for broken in [Frames::of(["one "]).broken(), Frames::of(["one two"]).broken().waiting(), Frames::none().broken()] {
        let answer = call(&desk.service, post_paid(broken, &credential)).await;
        assert_eq!(answer.status, 400);
        answer.assert_no_challenge();
    }
    assert_eq!(desk.rail.attempts(), 0);
    assert_eq!(call(&desk.service, post_paid(Frames::of(["one two"]), &credential)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_408() {
    let desk = Desk::bound();
    let credential = pay(&ask(&desk.service, post(Frames::of(["one"]))).await);
    for slow in [Frames::none().hanging(), Frames::of(["one"]).hanging()] {
        let begun = Instant::now();
        let answer = call(&desk.service, post_paid(slow, &credential)).await;
        assert_eq!(answer.status, 408);
        answer.assert_no_challenge();
        let took = begun.elapsed();
        assert!((30..31).contains(&took.as_secs()), "{took:?}");
    }
    assert_eq!(desk.rail.attempts(), 0);
    assert_eq!(call(&desk.service, post_paid(Frames::of(["one"]), &credential)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_408_too() {
    let rail = TestRail::new("demo");
    let merchant = builder(&rail).body_timeout(Duration::from_secs(10)).build().unwrap();
    let service = merchant.charge(price()).unwrap().layer(served());
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
    let trickle = tokio::spawn(async move {
        // Until nobody listens any more.
        while sender.send_data(Bytes::from_static(b".")).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let begun = Instant::now();
    assert_eq!(call(&service, post(body)).await.status, 408);
    assert!((10..12).contains(&begun.elapsed().as_secs()));
    trickle.await.unwrap();
}

#[tokio::test]
async fn one_mebibyte_is_fine_and_one_byte_more_is_not() {
    let desk = Desk::bound();
    let body = |size: usize| Frames::of(vec![vec![b'x'; MIB / 2], vec![b'x'; size - MIB / 2]]);
    assert_eq!(desk.buy(body(MIB).chunked(), body(MIB).declared()).await.status, 200);
    assert_eq!(desk.last().chunks.concat().len(), MIB);
    let credential = pay(&ask(&desk.service, post(body(MIB))).await);
    for large in [body(MIB + 1).declared(), body(MIB + 1), body(MIB + 1).chunked().waiting()] {
        let answer = call(&desk.service, post_paid(large, &credential)).await;
        assert_eq!(answer.status, 413);
        answer.assert_no_challenge();
    }
    // A header that says so is enough.
    let mut declared = post(Frames::none().hanging());
    declared.headers_mut().insert("content-length", HeaderValue::from(MIB + 1));
    assert_eq!(call(&desk.service, declared).await.status, 413);
    assert_eq!(desk.rail.settlements(), 1);
}

#[tokio::test]
async fn a_body_that_grows_too_long_is_read_no_further() {
    let rail = TestRail::new("demo");
    let layer = merchant(&rail).charge(price()).unwrap().body_limit(10);
    let service = layer.layer(served());
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
    let sent = tokio::spawn(async move {
        let mut sent = 0;
        while sender.send_data(Bytes::from_static(b"four")).await.is_ok() {
            sent += 1;
        }
        sent
    });
    assert_eq!(call(&service, post(body)).await.status, 413);
    let sent = sent.await.unwrap();
    assert!((3..=5).contains(&sent), "{sent}");
}

/// A handler that tells when the first chunk is there, before it reads on.
fn reporting(first: tokio::sync::mpsc::Sender<Bytes>) -> Handler<Channel<Bytes, io::Error>> {
    Handler::new(service_fn(move |request: Request<RequestBody<Channel<Bytes, io::Error>>>| {
        let first = first.clone();
        async move {
            let mut body = request.into_body();
            first.send(body.frame().await.unwrap().unwrap().into_data().unwrap()).await.unwrap();
            let rest = body.collect().await.unwrap();
            assert_eq!(rest.trailers().unwrap()["x-checksum"], "1");
            Ok::<_, Infallible>(Response::new(rest.to_bytes().into()))
        }
    }))
}

#[tokio::test]
async fn an_upload_that_is_not_bound_is_streamed() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let layers = [
        merchant.charge(price()).unwrap(),
        merchant.charge(|_: &http::request::Parts| price()).unwrap(),
        merchant
            .charge(pricing::with_async(|_, body: &Bytes| {
                assert!(body.is_empty(), "nothing was bound, nothing is buffered");
                async {
                    tokio::task::yield_now().await;
                    price()
                }
            }))
            .unwrap(),
        merchant
            .charge(pricing::with_async(|head: &http::request::Parts, _| {
                let free = head.headers.contains_key("x-free");
                async move { (!free).then(price) }
            }))
            .unwrap(),
    ];
    for (index, layer) in layers.into_iter().enumerate() {
        let (first, mut chunks) = tokio::sync::mpsc::channel(1);
        let service = layer.bind_body(false).body_limit(3).layer(reporting(first));
        // The price is known, and told, before anything of the body is there.
        let (_sender, pending) = Channel::new(1);
        let challenge = ask(&service, post(pending)).await;
        assert_eq!(challenge.digest, None);
        for free in [false, true] {
            if free && index != 3 {
                continue;
            }
            let (mut sender, body) = Channel::new(1);
            let mut request = post_paid(body, &pay(&challenge));
            if free {
                request.headers_mut().remove("authorization");
                request.headers_mut().insert("x-free", HeaderValue::from_static("1"));
            }
            let answer = tokio::spawn(service.clone().oneshot(request));
            sender.send_data(Bytes::from_static(b"first and longer than the limit")).await.unwrap();
            assert_eq!(chunks.recv().await.unwrap(), "first and longer than the limit");
            assert!(!answer.is_finished());
            sender.send_data(Bytes::from_static(b"last")).await.unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", HeaderValue::from_static("1"));
            sender.send_trailers(trailers).await.unwrap();
            drop(sender);
            let answer = read(answer.await.unwrap().unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "last"));
        }
    }
    assert_eq!(rail.settlements(), 4);
}

#[tokio::test]
async fn a_price_by_body_buffers_also_where_the_body_is_not_bound() {
    let pricing = pricing::with_body(|_, body| match &body[..] {
        b"cheap" => Ok(price()),
        b"dear" => Ok(Price::usd("9.00").unwrap()),
        _ => Err(Refused::bad_request("There is no such model.")),
    });
    let desk = Desk::open(|merchant| merchant.charge(pricing).unwrap().bind_body(false).body_limit(10));
    let challenge = ask(&desk.service, post(Frames::of(["ch", "eap"]).chunked())).await;
    assert_eq!(challenge.digest, None);
    // Not bound by digest, and still not good for another price.
    assert_eq!(call(&desk.service, post_paid(Frames::of(["dear"]), &pay(&challenge))).await.status, 402);
    assert_eq!(call(&desk.service, post_paid(Frames::of(["else"]), &pay(&challenge))).await.status, 400);
    assert_eq!(call(&desk.service, post(Frames::of(["longer than ten"]))).await.status, 413);
    assert_eq!(call(&desk.service, post_paid(Frames::of(["cheap"]), &pay(&challenge))).await.status, 200);
    assert_eq!(desk.last().chunks, ["cheap"]);
}

/// The frames of a paid answer, with what the body says about itself before each of them.
async fn answered(answer: Frames) -> Vec<(bool, SizeHint, Option<Frame<Bytes>>)> {
    let rail = TestRail::new("demo");
    let answer = Arc::new(Mutex::new(Some(answer)));
    let handler = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        let body = answer.lock().unwrap().take().unwrap();
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let service = merchant(&rail).charge(price()).unwrap().layer(handler);
    let answer = service.clone().oneshot(get("/")).await.unwrap();
    let credential = pay(&challenge(answer.headers()));
    let answer = service.oneshot(get_paid("/", &credential)).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut body: ResponseBody<Frames> = answer.into_body();
    let mut seen = Vec::new();
    loop {
        let (end, hint) = (body.is_end_stream(), body.size_hint());
        let frame = body.frame().await.map(Result::unwrap);
        let last = frame.is_none();
        seen.push((end, hint, frame));
        if last {
            return seen;
        }
    }
}

#[tokio::test]
async fn an_answer_passes_frame_by_frame() {
    let chunks: Vec<Bytes> = ["one ", "two "].iter().map(|text| Bytes::from(text.to_string())).collect();
    let bodies: [fn(Vec<Bytes>) -> Frames; 5] = [
        |chunks| Frames::of(chunks),
        |chunks| Frames::of(chunks).declared(),
        |chunks| Frames::of(chunks).chunked().waiting(),
        |chunks| Frames::of(chunks).trailer("grpc-status", "0"),
        |_| Frames::none().trailer("grpc-status", "0"),
    ];
    for body in bodies {
        let mut plain = body(chunks.clone());
        for (end, hint, frame) in answered(body(chunks.clone())).await {
            assert_eq!((end, hint.lower(), hint.upper()), {
                let hint = plain.size_hint();
                (plain.is_end_stream(), hint.lower(), hint.upper())
            });
            let expected = plain.frame().await.map(Result::unwrap);
            let data = |frame: &Option<Frame<Bytes>>| frame.as_ref().and_then(|frame| frame.data_ref().cloned());
            assert_eq!(data(&frame).map(|data| data.as_ptr()), data(&expected).map(|data| data.as_ptr()));
            let trailers = |frame: Option<Frame<Bytes>>| frame.and_then(|frame| frame.into_trailers().ok());
            assert_eq!(trailers(frame), trailers(expected));
        }
    }
}

#[tokio::test]
async fn an_answer_is_streamed_as_it_is_made() {
    let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
    let body = Arc::new(Mutex::new(Some(body)));
    let rail = TestRail::new("demo");
    let handler = service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        let body = body.lock().unwrap().take().unwrap();
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let service = merchant(&rail).charge(price()).unwrap().layer(handler);
    let answer = service.clone().oneshot(get("/")).await.unwrap();
    let mut answer = service.oneshot(get_paid("/", &pay(&challenge(answer.headers())))).await.unwrap();
    assert!(answer.headers().contains_key("payment-receipt"));
    for event in ["data: 1\r\n\r\n", "data: 2\r\n\r\n", "data: [DONE]\r\n\r\n"] {
        sender.send_data(event.into()).await.unwrap();
        assert_eq!(answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), event);
    }
    drop(sender);
    assert!(answer.body_mut().frame().await.is_none());
}

/// A server for HTTP/1 and HTTP/2 whose handler answers with `answer`.
async fn serve<F>(layer: PaymentLayer, answer: F) -> std::net::SocketAddr
where
    F: Fn() -> Response<Frames> + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            let handler = service_fn(move |request: Request<RequestBody<hyper::body::Incoming>>| {
                let mut response = answer();
                async move {
                    let read = note(request).await;
                    let framed = if read.headers.contains_key("content-length") { "declared" } else { "open" };
                    let checksum = read.trailers.and_then(|trailers| trailers.get("x-checksum").cloned());
                    response.headers_mut().insert("x-framed", HeaderValue::from_static(framed));
                    if let Some(checksum) = checksum {
                        response.headers_mut().insert("x-checksum", checksum);
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            let service = TowerToHyperService::new(layer.layer(handler));
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_body_without_a_length_is_bound_over_http_1_and_http_2() {
    let rail = TestRail::new("demo");
    let address = serve(merchant(&rail).charge(price()).unwrap(), || Response::new(Frames::of(["served"]))).await;
    for http2 in [false, true] {
        let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Frames>();
        let send = async |body: Frames, credential: Option<&HeaderValue>| {
            let mut request = Request::post(format!("http://{address}/")).body(body).unwrap();
            request.headers_mut().extend(credential.map(|value| (http::header::AUTHORIZATION, value.clone())));
            read(client.request(request).await.unwrap()).await
        };
        let body = || Frames::of(["one ", "two"]).chunked().waiting().trailer("x-checksum", "7");
        let challenge = challenge(&send(body(), None).await.headers);
        assert_eq!(challenge.digest, Some(ContentDigest::of(b"one two").to_string()));
        let credential = pay(&challenge);
        for other in [Frames::of(["one too"]).chunked(), Frames::none().chunked(), Frames::none()] {
            send(other, Some(&credential)).await.assert_challenged("invalid-challenge");
        }
        let answer = send(body(), Some(&credential)).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "served"));
        assert_eq!(answer.header("x-framed"), Some("open"));
        // HTTP/1 clients announce trailers or leave them out.
        assert!(!http2 || answer.header("x-checksum") == Some("7"));
        // The same bytes with a declared length are the same body.
        let credential = pay(&support::challenge(&send(body(), None).await.headers));
        let declared = send(Frames::of(["one two"]).declared(), Some(&credential)).await;
        assert_eq!((declared.status.as_u16(), declared.header("x-framed")), (200, Some("declared")));
    }
    assert_eq!(rail.settlements(), 4);
}

#[tokio::test]
async fn a_socket_that_closes_in_the_middle_of_a_body_is_not_charged() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let address = serve(merchant.charge(price()).unwrap(), || Response::new(Frames::of(["served"]))).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Frames>();
    let request = |body| Request::post(format!("http://{address}/")).body(body).unwrap();
    let answer = client.request(request(Frames::of(["0123456789"]).declared())).await.unwrap();
    let credential = pay(&challenge(answer.headers()));
    let text = credential.to_str().unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\nauthorization: {text}\r\n\r\n01234");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    // Whatever the answer is, it is the end of it.
    let mut rest = Vec::new();
    let _ = socket.read_to_end(&mut rest).await;
    merchant.drain().await;
    assert_eq!(rail.attempts(), 0);
    let paid = with_credential(request(Frames::of(["0123456789"]).declared()), &credential);
    assert_eq!(client.request(paid).await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_upload_is_asked_to_pay_before_it_is_sent() {
    let rail = TestRail::new("demo");
    let layer = merchant(&rail).charge(price()).unwrap().bind_body(false);
    let address = serve(layer, || Response::new(Frames::of(["served"]))).await;
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\n{expect}content-length: 590000000\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(Duration::from_secs(5), socket.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 402");
    }
}

#[tokio::test]
async fn an_answer_without_bytes_is_delivered_once_whatever_its_body_says() {
    let answers: [fn() -> Response<Frames>; 7] = [
        || Response::new(Frames::none()),
        || Response::new(Frames::none().chunked()),
        || Response::new(Frames::none().chunked().declared()),
        || Response::new(Frames::none().chunked().waiting()),
        || Response::new(Frames::of([""]).declared()),
        || Response::builder().header("content-length", "0").body(Frames::none().chunked()).unwrap(),
        || Response::builder().header("content-length", "0").body(Frames::none().chunked().waiting()).unwrap(),
    ];
    for (index, answered) in answers.into_iter().enumerate() {
        for http2 in [false, true] {
            let rail = TestRail::new("demo");
            let merchant = merchant(&rail);
            let address = serve(merchant.charge(price()).unwrap(), answered).await;
            let client = Client::builder(TokioExecutor::new()).http2_only(http2).build_http::<Full<Bytes>>();
            let request = || Request::get(format!("http://{address}/")).body(Full::default()).unwrap();
            let credential = pay(&challenge(client.request(request()).await.unwrap().headers()));
            let answer = read(client.request(with_credential(request(), &credential)).await.unwrap()).await;
            assert_eq!(answer.status, 200);
            answer.receipt();
            merchant.drain().await;
            let again = client.request(with_credential(request(), &credential)).await.unwrap();
            assert_eq!(again.status(), 403, "answer {index}, HTTP/2: {http2}");
        }
    }
}

#[tokio::test]
async fn a_body_of_a_get_is_bound_too() {
    let desk = Desk::bound();
    let get = |body| Request::builder().method(Method::GET).uri("/").body(body).unwrap();
    let challenge = ask(&desk.service, get(Frames::of(["query"]))).await;
    assert!(challenge.digest.is_some());
    assert_eq!(call(&desk.service, with_credential(get(Frames::none()), &pay(&challenge))).await.status, 402);
    assert_eq!(call(&desk.service, with_credential(get(Frames::of(["query"])), &pay(&challenge))).await.status, 200);
}
