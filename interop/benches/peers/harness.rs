//! Takes turns between the contenders, and counts allocations in a turn of its own.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    convert::Infallible,
    future::poll_fn,
    hint::black_box,
    pin::pin,
    rc::Rc,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody},
    http::{Request, Response, StatusCode},
};
use tokio::runtime::{Builder, Runtime};
use tower::Service;

use crate::case;

/// Rounds in which every contender has one turn.
const ROUNDS: usize = 301;
/// How long a turn is meant to be: short enough that a disturbance hits few turns, long enough for the clock.
const TURN: Duration = Duration::from_micros(500);

struct Counting;

static COUNT: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

fn note(size: usize) {
    // One relaxed load while times are taken: counting itself would cost those most who allocate most.
    if COUNT.load(Relaxed) {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(size as u64, Relaxed);
    }
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Does something as often as it is told, and says how long that took without the preparation.
type Work = Box<dyn FnMut(usize) -> Duration>;

struct Contender {
    case: &'static str,
    name: &'static str,
    work: Work,
    turn: usize,
    allocations: f64,
    bytes: f64,
    nanos: Vec<f64>,
}

/// Everything that is to be measured.
pub struct Bench {
    filter: String,
    runtime: Rc<Runtime>,
    contenders: Vec<Contender>,
}

impl Bench {
    pub fn new(filter: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { filter: filter.to_owned(), runtime: Rc::new(runtime), contenders: Vec::new() }
    }

    pub fn runtime(&self) -> Rc<Runtime> {
        self.runtime.clone()
    }

    /// Measures a plain function of an input that is prepared outside the measurement.
    pub fn plain<I: 'static, T>(
        &mut self,
        case: &'static str,
        name: &'static str,
        mut input: impl FnMut() -> I + 'static,
        mut work: impl FnMut(I) -> T + 'static,
    ) {
        self.push(case, name, move |times| {
            let inputs: Vec<I> = (0..times).map(|_| input()).collect();
            timed(|| inputs.into_iter().for_each(|input| drop(black_box(work(black_box(input))))))
        });
    }

    /// Measures a service: ready, call, answer, and the answer's body to its end, as a server does it.
    pub fn service<S, B>(
        &mut self,
        case: &'static str,
        name: &'static str,
        mut service: S,
        mut request: impl FnMut() -> Request<Body> + 'static,
        expected: StatusCode,
    ) where
        S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + 'static,
        B: HttpBody,
    {
        let runtime = self.runtime();
        self.push(case, name, move |times| {
            let requests: Vec<_> = (0..times).map(|_| request()).collect();
            timed(|| {
                runtime.block_on(async {
                    for request in requests {
                        let answer = black_box(serve(&mut service, black_box(request)).await);
                        assert_eq!(answer.status(), expected, "{case}: {name} does something else");
                    }
                });
            })
        });
    }

    fn push(&mut self, case: &'static str, name: &'static str, work: impl FnMut(usize) -> Duration + 'static) {
        assert!(case::ALL.contains(&case), "{case} is not printed");
        if case.contains(&self.filter) {
            let (work, nanos) = (Box::new(work), Vec::new());
            self.contenders.push(Contender { case, name, work, turn: 1, allocations: 0.0, bytes: 0.0, nanos });
        }
    }

    /// Measures and prints; once over when it is not meant to measure.
    pub fn run(mut self, measure: bool) {
        for contender in &mut self.contenders {
            contender.prepare(measure);
        }
        for _ in 0..if measure { ROUNDS } else { 1 } {
            for contender in &mut self.contenders {
                // A turn that began with the caches of the one before would say more about the order.
                (contender.work)(contender.turn.div_ceil(8));
                let time = (contender.work)(contender.turn);
                contender.nanos.push(time.as_nanos() as f64 / contender.turn as f64);
            }
        }
        self.print();
    }

    fn print(&self) {
        println!(
            "| case | contender | median | fastest | allocations | bytes | ratio |\n|---|---|--:|--:|--:|--:|--:|"
        );
        for case in case::ALL {
            let mut first: Option<Vec<f64>> = None;
            for contender in self.contenders.iter().filter(|contender| contender.case == case) {
                let Contender { name, allocations, bytes, nanos, .. } = contender;
                let first = first.get_or_insert_with(|| nanos.clone());
                let ratio = median(nanos.iter().zip(first).map(|(own, first)| own / *first));
                let (median, fastest) = (median(nanos.iter().copied()), nanos.iter().copied().fold(f64::MAX, f64::min));
                println!(
                    "| {case} | {name} | {} | {} | {allocations:.1} | {bytes:.0} | {ratio:.2} |",
                    time(median),
                    time(fastest)
                );
            }
        }
        println!("\nThe ratio is the median, over all rounds, of the ratio to the first contender of the case.");
    }
}

impl Contender {
    fn prepare(&mut self, measure: bool) {
        const COUNTED: usize = 64;
        (self.work)(if measure { COUNTED } else { 1 });
        COUNT.store(true, Relaxed);
        ALLOCATIONS.store(0, Relaxed);
        BYTES.store(0, Relaxed);
        // `timed` leaves the preparation out.
        let time = (self.work)(COUNTED);
        COUNT.store(false, Relaxed);
        self.allocations = ALLOCATIONS.load(Relaxed) as f64 / COUNTED as f64;
        self.bytes = BYTES.load(Relaxed) as f64 / COUNTED as f64;
        if measure {
            let one = time.as_nanos().max(1) / COUNTED as u128;
            self.turn = (TURN.as_nanos() / one.max(1)).clamp(4, 4096) as usize;
        }
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    ALLOCATIONS.store(0, Relaxed);
    BYTES.store(0, Relaxed);
    let start = Instant::now();
    work();
    let time = start.elapsed();
    COUNT.store(false, Relaxed);
    time
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn time(nanos: f64) -> String {
    if nanos < 1_000.0 { format!("{nanos:.0} ns") } else { format!("{:.2} us", nanos / 1_000.0) }
}

/// One request as a server would put it to a service. The answer comes back without its body.
pub async fn serve<S, B>(service: &mut S, request: Request<Body>) -> Response<()>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody,
{
    let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
    let Ok(answer) = service.call(request).await;
    let (head, body) = answer.into_parts();
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        assert!(frame.is_ok(), "a body that ends");
    }
    Response::from_parts(head, ())
}
