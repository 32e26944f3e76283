//! The smallest merchant. Run `cargo run --example hello`, then `curl -i http://127.0.0.1:3000/` shows
//! the 402 and `cargo run --example agent -- http://127.0.0.1:3000/` pays it with play money.

use axum::{Router, routing::get};
use tower_mpp::{KeyRing, Merchant, PaymentInfo, Price, method::Sandbox, store::MemoryNonceStore};

fn app() -> Result<Router, Box<dyn std::error::Error>> {
    let merchant = Merchant::builder("localhost", KeyRing::new("replace this by 32 random bytes!")?)
        .test_mode(true)
        .method(Sandbox::new())
        .nonce_store(MemoryNonceStore::single_process(100_000))
        .build()?;
    let charge = merchant.charge(Price::usd("0.50")?)?.description("A greeting");
    Ok(Router::new().route("/", get(hello).route_layer(charge)))
}

async fn hello(payment: PaymentInfo) -> String {
    format!("Hello! You paid {} {} cents.\n", payment.amount(), payment.currency())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app()?).await?)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn asks_for_payment() {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let answer = super::app().unwrap().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 402);
        assert!(answer.headers()["www-authenticate"].to_str().unwrap().starts_with("Payment "));
    }
}
