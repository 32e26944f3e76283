//! How a paid request ended, and the answer that leaves.

use http::{Response, StatusCode, header::CONTENT_LENGTH};
use http_body::Body;

use super::{ResponseBody, receipted::Seal, render, route::Route};
use crate::{
    flow::{Delivery, Kept, PaymentOutcome, Refusal, RefusalKind, events},
    store::StoreError,
};

/// An answer that is about to leave.
pub(super) enum Leaving<R> {
    /// As the service has made it.
    Service(R),
    /// It was kept, and its body is here.
    Kept(Response<Box<Kept>>),
}

/// How a paid request ended.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// 2xx: the body is still to be sent.
    Delivered,
    /// 2xx or 101 with nothing to send behind the head.
    DeliveredWhole,
    /// Anything else.
    Failed,
}

/// Whether the handler has delivered. A switched protocol is a delivery: its use has begun.
pub(super) fn end_of<B: Body>(response: &Response<B>, head_only: bool) -> End {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return End::DeliveredWhole;
    }
    if !status.is_success() {
        return End::Failed;
    }
    // These are sent without their body, which then is never asked for.
    let bodyless = matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT);
    let body = response.body();
    let empty = body.is_end_stream()
        || body.size_hint().exact() == Some(0)
        || response.headers().get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    if head_only || bodyless || empty { End::DeliveredWhole } else { End::Delivered }
}

/// The answer of the service has broken off before any of it has left.
pub(super) fn broken() -> Refusal {
    const DETAIL: &str = "The answer broke off. Repeat the request with the same credential; it is not charged twice.";
    let refusal = Refusal::detailed(RefusalKind::OutcomeUnknown, DETAIL);
    events::refused(&refusal);
    refusal
}

pub(super) fn finish<B: Body>(
    answer: Leaving<Response<B>>,
    end: End,
    mut delivery: Delivery,
    recorded: Result<Option<PaymentOutcome>, StoreError>,
    route: &Route,
) -> Response<ResponseBody<B>> {
    // Delivered but not recorded: it could be delivered again, so it is not delivered now. Dropping the
    // delivery gives the lease back.
    if !matches!(end, End::Failed) && recorded.is_err() {
        delivery.record().iter_mut().for_each(|record| record.keep_silent());
        let refusal = Refusal::new(RefusalKind::OutcomeUnknown);
        events::refused(&refusal);
        return render::plain(refusal, &route.merchant.settings).map(ResponseBody::own);
    }
    let mut response = match answer {
        Leaving::Kept(response) => {
            delivery.info().into_iter().for_each(events::delivered);
            if matches!(end, End::Delivered) {
                return response.map(|kept| ResponseBody::kept_first(kept, delivery));
            }
            delivery.end();
            return response.map(ResponseBody::kept);
        }
        Leaving::Service(response) => response,
    };
    match end {
        End::Failed => {
            // Otherwise dropping the delivery tries again.
            if recorded.is_ok() {
                delivery.info().into_iter().for_each(events::undelivered);
                delivery.end();
            }
            let outcome = recorded.ok().flatten();
            render::failed(&mut response, outcome.unwrap_or(PaymentOutcome::Redeliverable));
            response.map(ResponseBody::inner)
        }
        End::DeliveredWhole => {
            delivery.info().into_iter().for_each(events::delivered);
            delivery.end();
            response.map(ResponseBody::inner)
        }
        End::Delivered => {
            delivery.info().into_iter().for_each(events::delivered);
            match Seal::new(&mut delivery, &response, route) {
                Some(seal) => response.map(|body| ResponseBody::receipted(body, seal, delivery)),
                None => response.map(|body| ResponseBody::paid(body, delivery)),
            }
        }
    }
}
