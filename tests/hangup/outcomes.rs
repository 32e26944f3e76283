//! Whatever a rail says, in whatever order: as long as it keeps its contract, a payer is charged once,
//! served once, and never told to pay for what has been paid.

use std::sync::Mutex;

use async_trait::async_trait;
use tower_mpp::{
    method::{
        Attempt, Checked, Declined, Fault, OfferRequest, PaymentMethod, RefundError, RefundRequest, Refunded,
        SettleError, Settlement, Unknown, VerifyError,
    },
    protocol::{Intent, MethodId},
};

use super::*;

/// What becomes of one attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    Settles,
    /// The rail is down when the payment is verified.
    VerifyFault,
    VerifyHangs,
    /// The challenge expires while the payment is verified.
    VerifyTakesLong,
    /// Our side is at fault: this attempt moves nothing.
    SettleFault,
    /// Nothing moved, and nobody knows.
    Unknown,
    /// Money moved, and nobody knows.
    ReplyLost,
    /// Money moved, and no answer comes.
    SettleHangs,
    /// Money moved, and then a bug.
    SettlePanics,
    /// No for good. A rail that has taken the money does not say this, so it then settles.
    Declines,
}

const TURNS: [Turn; 10] = [
    Turn::Settles,
    Turn::VerifyFault,
    Turn::VerifyHangs,
    Turn::VerifyTakesLong,
    Turn::SettleFault,
    Turn::Unknown,
    Turn::ReplyLost,
    Turn::SettleHangs,
    Turn::SettlePanics,
    Turn::Declines,
];

/// A rail that does as it is told, one turn after the other, and then settles.
#[derive(Clone)]
struct Scripted(Arc<Script>);

struct Script {
    turns: Mutex<Vec<Turn>>,
    /// Money that moved, and what the merchant was told to be a first attempt after it had.
    charged: AtomicUsize,
    firsts_after_charge: AtomicUsize,
    clock: Arc<ManualClock>,
}

impl Scripted {
    fn turn(&self) -> Turn {
        self.0.turns.lock().unwrap().first().copied().unwrap_or(Turn::Settles)
    }

    fn next(&self) {
        let mut turns = self.0.turns.lock().unwrap();
        if !turns.is_empty() {
            turns.remove(0);
        }
    }

    fn charged(&self) -> bool {
        self.0.charged.load(Ordering::SeqCst) > 0
    }

    fn charge(&self) {
        // What the idempotency key of a real rail does.
        let _ = self.0.charged.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
    }
}

#[async_trait]
impl PaymentMethod for Scripted {
    fn method(&self) -> &MethodId {
        static ID: std::sync::LazyLock<MethodId> = std::sync::LazyLock::new(|| MethodId::new("scripted").unwrap());
        &ID
    }

    fn intent(&self) -> &Intent {
        &Intent::CHARGE
    }

    fn offer(&self, price: &Price) -> Option<OfferRequest> {
        Some(OfferRequest::of(price))
    }

    fn check(&self, _: &tower_mpp::method::Payment) -> Result<Checked, Declined> {
        Ok(Checked::bound())
    }

    async fn verify(&self, _: &tower_mpp::method::Payment, attempt: Attempt) -> Result<(), VerifyError> {
        if self.charged() && attempt == Attempt::First {
            self.0.firsts_after_charge.fetch_add(1, Ordering::SeqCst);
        }
        match self.turn() {
            Turn::VerifyFault => {
                self.next();
                Err(Fault::new("down").into())
            }
            Turn::VerifyHangs => {
                self.next();
                std::future::pending().await
            }
            Turn::VerifyTakesLong => {
                self.next();
                self.0.clock.advance(Duration::from_secs(300));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn settle(&self, payment: &tower_mpp::method::Payment, _: Attempt) -> Result<Settlement, SettleError> {
        let turn = self.turn();
        self.next();
        match turn {
            Turn::SettleFault => return Err(Fault::new("a wrong key").into()),
            Turn::Unknown => return Err(Unknown::new("no answer").into()),
            Turn::Declines if !self.charged() => return Err(Declined::invalid_proof("No.").into()),
            _ => self.charge(),
        }
        match turn {
            Turn::ReplyLost => Err(Unknown::new("the reply was lost").into()),
            Turn::SettleHangs => std::future::pending().await,
            Turn::SettlePanics => panic!("{BUG}"),
            _ => Ok(Settlement::new("ref", payment.now())),
        }
    }

    async fn refund(&self, _: RefundRequest<'_>) -> Result<Refunded, RefundError> {
        Err(RefundError::Unsupported)
    }
}

/// What a panic of the rail says; it is part of the play, and not worth a word on the screen.
const BUG: &str = "a bug in a rail";

/// Presents one credential until it is served or refused for good.
async fn play(turns: &[Turn]) {
    let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let rail = Scripted(Arc::new(Script {
        turns: Mutex::new(turns.to_vec()),
        charged: AtomicUsize::new(0),
        firsts_after_charge: AtomicUsize::new(0),
        clock: Arc::clone(&clock),
    }));
    let merchant = Merchant::builder("api.example.com", tower_mpp::KeyRing::new(KEY).unwrap())
        .method(rail.clone())
        .nonce_store(MemoryNonceStore::single_process(10))
        .clock(Arc::clone(&clock))
        .build()
        .unwrap();
    let service = merchant.charge(price()).unwrap().layer(served());
    let credential = pay_with(&ask(&service, support::get("/")).await, None, &json!({}));

    let mut served = 0;
    for _ in 0..2 * turns.len() + 2 {
        let answer = call(&service, get_paid("/", &credential)).await;
        merchant.drain().await;
        let text = answer.text();
        match answer.status.as_u16() {
            200 => served += 1,
            402 => {
                // Declined, or expired before any money had moved: the end of it.
                assert!(!rail.charged(), "{turns:?}: asked to pay what was paid");
                let late = turns.contains(&Turn::VerifyTakesLong);
                assert!(turns.contains(&Turn::Declines) || late, "{turns:?}: {text}");
                break;
            }
            403 => break,
            409 => clock.advance(LEASE_OVER),
            503 => {}
            other => panic!("{turns:?}: {other} {text}"),
        }
        assert!(answer.status == 200 || !answer.headers.contains_key("payment-receipt"));
        assert!(!rail.charged() || !text.contains("Nothing was charged."), "{turns:?}: {text}");
    }
    assert_eq!(served, usize::from(rail.charged()), "{turns:?}");
    assert_eq!(rail.0.firsts_after_charge.load(Ordering::SeqCst), 0, "{turns:?}: the rail was not told");
    assert_eq!(merchant.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_payer_is_charged_once_and_served_once_whatever_a_rail_says() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<String>().is_none_or(|text| text != BUG) {
            others(panic);
        }
    }));
    for one in TURNS {
        for two in TURNS {
            for three in TURNS {
                play(&[one, two, three]).await;
            }
        }
    }
}
