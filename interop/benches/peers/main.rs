//! One request through each of the payment layers there are for Tower, in one process and in turns.
//!
//! `cargo bench --no-default-features --features bench [-- part-of-a-case's-name]`, and with `bench,metrics` what
//! the metrics cost where nobody collects them. The times are worth nothing on another machine or in another run;
//! the ratios are. Without `--bench` (as `cargo test --benches` calls it) everything runs once.

mod bare;
mod harness;
mod mpp_layers;
mod tower_mpp_layer;
mod x402_layer;

use harness::Bench;

/// What is measured. Not every peer has every case.
pub mod case {
    /// What the floor is made of.
    pub const PIECES: &str = "pieces";
    /// A route that costs nothing, behind the layer.
    pub const FREE: &str = "free route";
    /// No credential.
    pub const ASK: &str = "402";
    /// No credential, eight ways to pay.
    pub const ASK_8: &str = "402 with 8 offers";
    /// No credential, a request with a body that the challenge is bound to.
    pub const ASK_BODY: [(&str, usize); 3] =
        [("402 for 1 KiB", 1 << 10), ("402 for 64 KiB", 1 << 16), ("402 for 1 MiB", 1 << 20)];
    /// A good credential on a rail that moves nothing.
    pub const PAID: &str = "paid";
    /// A credential that this merchant has not issued.
    pub const FORGED: &str = "forged id";
    /// Three quarters of a credential.
    pub const GARBAGE: &str = "garbage";
    /// A credential that was delivered before.
    pub const REPLAY: &str = "replay";

    pub const ALL: [&str; 11] =
        [PIECES, FREE, ASK, ASK_8, ASK_BODY[0].0, ASK_BODY[1].0, ASK_BODY[2].0, PAID, FORGED, GARBAGE, REPLAY];
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|argument| !argument.starts_with("--"));
    let mut bench = Bench::new(filter.map_or("", String::as_str));
    bare::add(&mut bench);
    tower_mpp_layer::add(&mut bench);
    mpp_layers::add(&mut bench);
    x402_layer::add(&mut bench);
    bench.run(arguments.iter().any(|argument| argument == "--bench"));
}
